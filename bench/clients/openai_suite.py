"""openai-python's own API tests, from its source archive on PyPI, against a real gateway. What fails is told with its reason.

    python -m bench.clients.openai_suite                    # installs what it needs under .bench/, then about a minute
    python -m bench.clients.openai_suite --bare             # every request as it comes, nothing filled in
    python -m bench.clients.openai_suite -k retrieve        # some of them

The suite was written for a mock that makes answers out of the specification alone: it leaves out what is needed (a model, an
input), names things that are nowhere (`resp_677e...`), and sends together what OpenAI itself refuses. So a stage stands between:
it fills that in (`FILLED`), on the way to Stretto only. Answers pass byte for byte, and the SDK validates them strictly.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import threading
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.acceptance.served import served
from tests.acceptance.shapes import Shapes

ROOT = Path(__file__).parents[2]
ROOM = ROOT / ".bench" / "openai-suite"
VERSION = "3.54.0"
TESTS = ("models", "embeddings", "completions", "responses")
FOLDERS = ("chat", "responses")

FILLED = (
    "a model and an input where a request to Responses has none",
    "ids of responses that were really made, in the place of the suite's invented ones; `after` an invented item left out",
    "`conversation` and `prompt` (by id) left out: OpenAI keeps those, and refuses a conversation beside `previous_response_id`",
    "`max_tokens`, `max_completion_tokens`, `best_of` and `limit` of 0, which are out of their bounds, become 16 and 1",
    "`suffix` of legacy completions left out: Stretto refuses it, since chat models do not fill in between",
    "vectors asked for as floats: by default the SDK asks for base64, which its own strict validation then refuses",
)
"""What the stage changes in requests."""

REASONS = (
    (
        "test_models.py",
        "delete",
        "DELETE of a fine-tuned model: workers are configured by their owner, and nobody fine-tunes here",
    ),
    (
        "chat/test_completions.py",
        "retrieve|update|list|delete",
        "stored chat completions: not served; Responses are what is stored",
    ),
    ("chat/completions/", ".", "messages of stored chat completions: not served"),
    (
        "test_responses.py",
        "compact",
        "the SDK's type of a compacted response has no messages of users, which OpenAI's own example begins with",
    ),
)
"""Known reasons, by file and test."""


# --- the stage ---------------------------------------------------------------------------------------------------


class _Scene(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Stage"

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def _pass(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body, path = self.rfile.read(length), self.path
        if self.server.fills:
            path, body = self.server.filled(self.command, path, body)
        status, headers, answer = self.server.ask(self.command, path, body, dict(self.headers))
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_DELETE = _pass


class Stage(ThreadingHTTPServer):
    """Stands between the suite and Stretto. `fills`: requests get what the suite leaves out."""

    daemon_threads = True

    def __init__(self, port: int, *, fills: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Scene)
        self.port = port
        self.fills = fills

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers may leave."""

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = {}
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """One call to Stretto."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        kept = {
            name: value
            for name, value in headers.items()
            if name.lower() not in ("host", "content-length", "connection", "authorization")
        }
        connection.request(method, path, body or None, kept)
        answer = connection.getresponse()
        found = answer.status, answer.getheaders(), answer.read()
        connection.close()
        return found

    def made(self, **fields: Any) -> str:
        """The id of a response that has just been made."""
        body = json.dumps({"model": "gpt-6-astra", "input": "hello", **fields}).encode()
        status, _, answer = self.ask("POST", "/v1/responses", body, {"content-type": "application/json"})
        assert status == 200, answer
        return str(json.loads(answer)["id"])

    def filled(self, method: str, path: str, body: bytes) -> tuple[str, bytes]:
        """A request with what the suite leaves out."""
        named = re.match(r"/v1/responses/(resp_677efb5139a88190b512bc3fef8e535d|response_id)(.*)", path)
        if named is not None:
            background = named[2].startswith("/cancel") or "stream=true" in named[2]
            tail = re.sub(r"\blimit=0\b", "limit=1", named[2]).replace("after=after&", "")
            return f"/v1/responses/{self.made(background=background)}{tail}", body
        if method != "POST" or not body:
            return path, body
        fields = json.loads(body)
        for name, least in (("max_tokens", 16), ("max_completion_tokens", 16), ("best_of", 1)):
            if fields.get(name) == 0:
                fields[name] = least
        if path == "/v1/embeddings":
            fields["encoding_format"] = "float"
        if path == "/v1/completions":
            fields.pop("suffix", None)
        if path.startswith("/v1/responses"):
            for name in ("conversation", "prompt"):
                fields.pop(name, None)
            fields = {"model": "gpt-6-astra", "input": "hello", **fields}
            if "previous_response_id" in fields:
                fields["previous_response_id"] = self.made()
        return path, json.dumps(fields).encode()


# --- the suite ---------------------------------------------------------------------------------------------------


def installed(version: str) -> Path:
    """The suite's folder, and beside it an environment of its own with that version of the SDK."""
    python, archive = ROOM / "v" / "bin" / "python", ROOM / f"openai-{version}.tar.gz"
    marker = ROOM / f"installed-{version}"
    ROOM.mkdir(parents=True, exist_ok=True)
    if not marker.exists():
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(ROOM / "v")], check=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        tools = ["pytest", "pytest-asyncio", "inline-snapshot", "rich"]
        subprocess.run([*pip, "install", f"openai[aiohttp,realtime]=={version}", *tools], check=True)
        wanted = ["download", f"openai=={version}", "--no-deps", "--no-binary", "openai", "--dest", str(ROOM)]
        subprocess.run([*pip, *wanted], check=True)
        marker.touch()
    folder = ROOM / f"openai-{version}"
    if not folder.exists():
        with tarfile.open(archive) as source:
            source.extractall(ROOM, filter="data")
    return folder


def models_of(folder: Path) -> list[str]:
    """The names of models that the tests ask for."""
    found = {"gpt-6-astra"}
    for path in chosen(folder):
        for file in [path] if path.is_file() else path.rglob("*.py"):
            text = file.read_text()
            found.update(re.findall(r'\bmodel="([^"]+)"', text))
            if file.name == "test_models.py":
                found.update(name for name in re.findall(r'^\s+"(gpt[^"]+)",$', text, re.MULTILINE))
    return sorted(found)


def chosen(folder: Path) -> list[Path]:
    """The files and folders of the suite that are about what Stretto serves."""
    base = folder / "tests" / "api_resources"
    return [*(base / f"test_{name}.py" for name in TESTS), *(base / name for name in FOLDERS)]


def config(url: str, models: list[str]) -> str:
    """A worker for each name."""
    return "".join(
        f'[[worker]]\nid = "{name}"\nprice = {{ input = 1.0, output = 1.0 }}\nendpoints = [{{ base_url = "{url}" }}]\n'
        f'abilities = ["{"embedding" if "embedding" in name else "text"}", "tools", "json", "logprobs", "vision"]\n'
        for name in models
    )


def played(folder: Path, stage: Stage, expression: str) -> ElementTree.Element:
    """Run the suite; pytest's own report."""
    report = ROOM / "report.xml"
    report.unlink(missing_ok=True)
    command = [str(ROOM / "v" / "bin" / "python"), "-m", "pytest", *map(str, chosen(folder))]
    command += ["-o", "addopts=", "-q", "--tb=line", "-p", "no:cacheprovider", f"--junitxml={report}"]
    if expression:
        command += ["-k", expression]
    here = {**os.environ, "TEST_API_BASE_URL": f"http://127.0.0.1:{stage.server_address[1]}/v1"}
    with (ROOM / "pytest.log").open("wb") as log:
        subprocess.run(command, cwd=folder, env=here, stdout=log, stderr=log, check=False)
    return ElementTree.parse(report).getroot()


# --- the report --------------------------------------------------------------------------------------------------


def group_of(file: str, test: str) -> str:
    """Which part of the API a test is about."""
    verb = re.sub(r"^test_(method|raw_response|streaming_response|path_params)_", "", test)
    verb = re.sub(r"_with_all_params|_overload_\d+|\[.*", "", verb)
    return f"{file.removesuffix('.py').replace('test_', '')}: {verb}"


def reason_of(file: str, test: str, told: str) -> str:
    """Why a test fails: what is known of it, else what it said itself."""
    for where, names, reason in REASONS:
        if file.startswith(where) and re.search(names, test):
            return reason
    return re.sub(r"\s+", " ", told)[:300]


def summary(report: ElementTree.Element) -> dict[str, Any]:
    """Counts by group, and the reasons of what failed."""
    passed: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    reasons: dict[str, list[str]] = {}
    for case in report.iter("testcase"):
        parts = case.get("classname", "").split(".")
        at = parts.index("api_resources") + 1
        file = "/".join(part for part in parts[at:] if not part.startswith("Test")) + ".py"
        test = case.get("name", "")
        bad = [child for child in case if child.tag in ("failure", "error")]
        if not bad:
            passed[group_of(file, test)] += 1
            continue
        failed[group_of(file, test)] += 1
        told = bad[0].get("message") or bad[0].text or ""
        reasons.setdefault(reason_of(file, test, told), []).append(f"{file}::{test}")
    groups = {name: {"passed": passed[name], "failed": failed[name]} for name in sorted({*passed, *failed})}
    return {
        "passed": sum(passed.values()),
        "failed": sum(failed.values()),
        "groups": groups,
        "reasons": reasons,
    }


def told(found: Mapping[str, Any], version: str, bare: bool) -> str:
    """The result as Markdown."""
    lines = [
        f"openai {version}, {'bare' if bare else 'with the stage'}: {found['passed']} pass, {found['failed']} fail.",
        "",
        "| group | pass | fail |",
        "|---|--:|--:|",
        *(f"| {name} | {n['passed']} | {n['failed']} |" for name, n in found["groups"].items()),
    ]
    if found["reasons"]:
        lines += ["", "| fail | why |", "|--:|---|"]
        lines += [
            f"| {len(tests)} | {why.replace('|', '/')} |"
            for why, tests in sorted(found["reasons"].items(), key=lambda each: -len(each[1]))
        ]
    return "\n".join(lines)


def main() -> int:
    """Run, print, and end with 1 if a test failed whose reason is not known."""
    assert __doc__ is not None
    summary_line, _, more = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        description=summary_line, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", default=VERSION, help=f"of openai-python (default: {VERSION})")
    parser.add_argument("--bare", action="store_true", help="change nothing in the suite's requests")
    parser.add_argument("-k", default="", metavar="EXPRESSION", help="pytest's: only tests whose names match")
    parser.add_argument(
        "--json", action="store_true", help="print everything as JSON, each test that failed too"
    )
    args = parser.parse_args()
    folder = installed(args.version)
    with Shapes() as upstream, tempfile.TemporaryDirectory() as home:
        settings = config(upstream.url, models_of(folder))
        with served(Path(home), settings) as gateway:
            asyncio.run(gateway.started())
            stage = Stage(gateway.port, fills=not args.bare)
            threading.Thread(target=stage.serve_forever, daemon=True).start()
            found = summary(played(folder, stage, args.k))
            stage.shutdown()
            stage.server_close()
            errors = gateway.told().count("Traceback")
    print(json.dumps(found, indent=1) if args.json else told(found, args.version, args.bare))
    known = {reason for _, _, reason in REASONS}
    if errors:
        print(f"the gateway's log has {errors} tracebacks", file=sys.stderr)
    return 1 if errors or (not args.bare and set(found["reasons"]) - known) else 0


if __name__ == "__main__":
    sys.exit(main())
