"""Schemathesis on OpenAI's own specification: whatever it generates, a real gateway never answers with a server error.

    python -m bench.clients.schemathesis_run openapi.yaml               # five operations, some 500 cases
    python -m bench.clients.schemathesis_run openapi.yaml --cases 400 --seed 7 --stored

The specification is openai/openai-openapi's `openapi.yaml` (MIT), which is not part of this repository. Of it only the
operations are kept that are tested, and the names of models become those of the gateway's, so that requests come through to a
worker; for the same reason Responses always get a model and an input, and name no conversation or response that is not there.
The workers are scripted, always answer, and keep to the schema that is asked of them.
Half of what is generated breaks the specification on purpose.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs

from tests.acceptance.served import served
from tests.acceptance.shapes import DELTAS, Shapes, config

ROOM = Path(__file__).parents[2] / ".bench" / "schemathesis"
VERSION = "4.32.5"
FIVE = (
    ("post", "/responses"),
    ("post", "/chat/completions"),
    ("post", "/completions"),
    ("post", "/embeddings"),
    ("get", "/models"),
)
STORED = (
    ("get", "/responses/{response_id}"),
    ("delete", "/responses/{response_id}"),
    ("post", "/responses/{response_id}/cancel"),
    ("get", "/responses/{response_id}/input_items"),
    ("post", "/responses/input_tokens"),
    ("post", "/responses/compact"),
    ("get", "/models/{model}"),
)
EMBEDDER = """
[[worker]]
id = "embedder"
abilities = ["embedding"]
price = {{ input = 1.0, output = 1.0 }}
endpoints = [{{ base_url = "{url}" }}]
"""
COMPOSED = ("panel", "ladder", "pick", "picked")
NOWHERE = ("conversation", "prompt", "previous_response_id")
"""Fields of Responses that name what is not there: refused at once."""


def fitting(form: Mapping[str, Any]) -> str:
    """A text in this response format, as a worker with a grammar would write it: the first plain value that its schema takes."""
    schema = (form.get("json_schema") or {}).get("schema")
    if schema is None:
        return "{}"
    validator = jsonschema_rs.validator_for(schema)
    tried = (_plain(schema), {}, [], "", 0, 1, True, False, None, "x", 0.5, -1)
    return next((json.dumps(value) for value in tried if validator.is_valid(value)), "{}")


def _plain(schema: Any, depth: int = 0) -> Any:
    """The least value of a schema's type, with the properties that it requires."""
    if not isinstance(schema, dict) or depth > 8:
        return {}
    if "const" in schema or schema.get("enum"):
        return schema.get("const", (schema.get("enum") or [None])[0])
    kind = schema.get("type", "object")
    if (kind[0] if isinstance(kind, list) and kind else kind) != "object":
        return {"array": [], "string": "", "boolean": True, "null": None}.get(str(kind), 0)
    properties = schema.get("properties") or {}
    return {name: _plain(properties.get(name), depth + 1) for name in schema.get("required") or ()}


def installed(version: str) -> Path:
    """The folder of an environment of its own with Schemathesis."""
    commands, marker = ROOM / "v" / "bin", ROOM / f"installed-{version}"
    if not marker.exists():
        ROOM.mkdir(parents=True, exist_ok=True)
        if not commands.exists():
            subprocess.run([sys.executable, "-m", "venv", str(ROOM / "v")], check=True)
        pip = [str(commands / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        subprocess.run([*pip, "install", f"schemathesis=={version}", "pyyaml"], check=True)
        marker.touch()
    return commands


def cut(commands: Path, source: Path, operations: tuple[tuple[str, str], ...]) -> Path:
    """The specification with these operations alone, and with our names of models, as a JSON file."""
    whole = ROOM / "whole.json"
    if not whole.exists() or whole.stat().st_mtime < source.stat().st_mtime:
        code = (
            "import json, sys, yaml; "
            "json.dump(yaml.load(open(sys.argv[1]), yaml.CSafeLoader), open(sys.argv[2], 'w'), default=str)"
        )
        subprocess.run([str(commands / "python"), "-c", code, str(source), str(whole)], check=True)
    given = json.loads(whole.read_text())
    paths: dict[str, Any] = {}
    for method, path in operations:
        operation = given["paths"][path][method]
        operation.pop("security", None)
        paths.setdefault(path, {})[method] = operation
    given["paths"] = paths
    given.pop("security", None)
    for key in ("webhooks", "x-oaiMeta"):
        given.pop(key, None)
    schemas = given["components"]["schemas"]
    ours = {"type": "string", "enum": [*(name for name in DELTAS if name != "cut"), *COMPOSED]}
    for name in ("ModelIdsShared", "ModelIdsResponses"):
        schemas[name] = ours
    schemas["CreateCompletionRequest"]["properties"]["model"] = ours
    schemas["CreateEmbeddingRequest"]["properties"]["model"] = {"type": "string", "enum": ["embedder"]}
    create = schemas["CreateResponse"]["allOf"]
    create.append({"type": "object", "required": ["model", "input"]})
    for part in [*create, *(schemas[one["$ref"].rpartition("/")[2]] for one in create if "$ref" in one)]:
        for name in NOWHERE:
            part.get("properties", {}).pop(name, None)
    target = ROOM / "cut.json"
    target.write_text(json.dumps(given))
    return target


def shot(commands: Path, specification: Path, url: str, cases: int, seed: int) -> list[dict[str, Any]]:
    """Run Schemathesis; every exchange it had, from its own record."""
    record = ROOM / "record.har"
    record.unlink(missing_ok=True)
    command = [str(commands / "schemathesis"), "run", str(specification), "--url", url]
    command += ["--checks", "not_a_server_error", "--phases", "examples,fuzzing", "--no-color"]
    command += ["--max-examples", str(cases), "--seed", str(seed), "--continue-on-failure", "--no-shrink"]
    command += ["--suppress-health-check", "all", "--warnings", "off", "--generation-database", "none"]
    command += ["--report-har-path", str(record), "--output-truncate", "false"]
    with (ROOM / "run.log").open("wb") as log:
        subprocess.run(command, cwd=ROOM, stdout=log, stderr=log, check=False)
    found: list[dict[str, Any]] = json.loads(record.read_text())["log"]["entries"]
    return found


def main() -> int:
    """Run, print, and end with 1 if there was a server error."""
    assert __doc__ is not None
    first, _, more = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        description=first, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("specification", type=Path, help="OpenAI's openapi.yaml")
    parser.add_argument("--cases", type=int, default=130, help="for each operation (default: 130)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--stored", action="store_true", help="the routes of stored responses instead of the five"
    )
    args = parser.parse_args()
    commands = installed(VERSION)
    specification = cut(commands, args.specification, STORED if args.stored else FIVE)
    with Shapes(fitting) as upstream, tempfile.TemporaryDirectory() as home:
        settings = config(upstream.url) + EMBEDDER.format(url=upstream.url)
        with served(Path(home), settings) as gateway:
            asyncio.run(gateway.started())
            entries = shot(commands, specification, gateway.base_url, args.cases, args.seed)
            tracebacks = gateway.told().count("Traceback")
    statuses: dict[str, Counter[int]] = {}
    bad = []
    for entry in entries:
        asked, status = entry["request"], entry["response"]["status"]
        path = asked["url"].partition("/v1")[2].partition("?")[0]
        name = (
            f"{asked['method']} {'/'.join(path.split('/')[:2])}"
            if args.stored
            else f"{asked['method']} {path}"
        )
        statuses.setdefault(name, Counter())[status] += 1
        if not 100 <= status < 500:
            bad.append((status, entry))
    print(
        f"schemathesis {VERSION}, seed {args.seed}: {len(entries)} cases, {len(bad)} server errors, {tracebacks} tracebacks.\n"
    )
    print("| operation | cases | answers |\n|---|--:|---|")
    for name, counts in statuses.items():
        answers = ", ".join(f"{n} x {status}" for status, n in sorted(counts.items()))
        print(f"| {name} | {sum(counts.values())} | {answers} |")
    for status, entry in bad[:20]:
        print(f"\n{status} {entry['request']['method']} {entry['request']['url']}", file=sys.stderr)
        print(entry["request"].get("postData", {}).get("text", "")[:2000], file=sys.stderr)
        print(entry["response"]["content"].get("text", "")[:500], file=sys.stderr)
    return 1 if bad or tracebacks or not entries else 0


if __name__ == "__main__":
    sys.exit(main())
