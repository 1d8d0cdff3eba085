"""The real command, in processes of its own, with a home of its own, on the models that ship with Stretto."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-c", "from stretto.cli import main; main()"]
EU = ("string-north", "number-north", "list-north", "general-small", "thinker-north")
US = ("words-south", "digits-south", "general-large", "checker-south")
QUESTION = "Spell the word planet backward."


class Home:
    """A home folder in which the command is run, without any key and without looking for model servers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "stretto.toml"
        self.config.write_text("[pool]\ndiscover = false\n")
        self.environ = {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "STRETTO_CONFIG": str(self.config),
            "NO_COLOR": "1",
        }

    def run(self, *arguments: str, code: int = 0, input: str = "", **environ: str) -> Any:
        """Run the command to its end, which must have this exit code and no traceback."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            capture_output=True,
            text=True,
            input=input,
            timeout=120,
            cwd=self.folder,
            env=self.environ | environ,
        )
        assert "Traceback" not in done.stderr
        assert done.returncode == code, done.stderr
        return done

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What the command prints with `--json`."""
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    @contextmanager
    def serve(self, *arguments: str) -> "Iterator[Served]":
        """A gateway on a free port, until the end of the context."""
        process = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environ,
        )
        try:
            yield Served(process)
        finally:
            process.kill()
            process.communicate()


class Served:
    """A gateway that runs."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        assert process.stdout is not None
        head = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/v1", head)
        assert found, head + (process.stderr.read() if process.stderr else "")
        self.url, self.port = found[0], int(found[1])

    def call(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
        """One HTTP call: its status and JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        told = response.status, json.loads(response.read())
        connection.close()
        return told

    def ask(self, model: str, key: str = "") -> tuple[int, Any]:
        """Ask the usual question."""
        message = {"role": "user", "content": QUESTION}
        return self.call(
            "POST", "/v1/chat/completions", {"model": model, "messages": [message], "temperature": 0}, key
        )

    def stop(self) -> int:
        """Tell it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path)


def test_a_question_is_answered_and_its_receipt_can_be_read(home: Home) -> None:
    """Ask, then see the run in the list and as a tree, replay it without a call, erase its texts, and verify the record."""
    asked = home.run("ask", "-m", "string-north", "--temperature", "0", QUESTION)
    assert asked.stdout == "tenalp\n"
    run = home.json("runs", "list")[0]["run"]
    assert f"stretto runs show {run}" in asked.stderr
    shown = home.run("runs", "show", "--texts").stdout
    assert shown.startswith(run)
    assert re.search(r"0  solver string-north  answered  .* tokens  \$0\.0000", shown)
    assert "answer of string-north at 0" in shown
    assert f"user: {QUESTION}" in shown
    again = home.json("runs", "replay", run)
    assert (again["answer"], again["served_by"], again["missing"]) == ("tenalp", "string-north", [])
    home.run("runs", "erase", "--yes", run)
    assert "texts were not kept" in home.run("runs", "show", run, "--texts").stdout
    assert "cannot be replayed" in home.run("runs", "replay", run, code=2).stderr
    home.run("runs", "reindex")
    report = home.json("runs", "verify")
    assert (report["ok"], report["problems"], report["erased"] > 0) == (True, [], True)


def test_an_edited_record_is_found(home: Home) -> None:
    """`runs verify` ends with 1 and names file and line when somebody has changed what was recorded."""
    home.run("ask", "-m", "string-north", QUESTION)
    journal = max(
        (home.folder / ".stretto" / "ledger").glob("*/000001.jsonl"), key=lambda path: path.stat().st_size
    )
    journal.write_bytes(
        journal.read_bytes().replace(b'"worker":"string-north"', b'"worker":"number-north"', 1)
    )
    told = home.run("runs", "verify", code=1).stdout
    assert f"{journal.parent.name}/000001.jsonl:" in told


def test_a_dry_run_calls_nobody(home: Home) -> None:
    """`plan` shows who may play, who may not and why, and the outlook; nothing is recorded as a run."""
    seen = home.json("plan", "-m", "fuse", "--require", "region=eu", QUESTION)
    assert {card["id"] for card in seen["candidates"]} == {*EU, "coordinator", "planner"}
    assert {tuple(denied.values()) for denied in seen["denied"]} == {
        (worker, "region is 'us', required to be eu") for worker in US
    }
    assert seen["outlook"]["calls"]["least"] > 0
    assert "would ask" in home.run("plan", QUESTION).stdout
    assert home.json("runs", "list") == []


def test_a_gateway_serves_until_it_is_told_to_stop(home: Home) -> None:
    """Zero configuration: it answers, the command line can ask it, and SIGTERM ends it tidily with its chain closed."""
    with home.serve() as gateway:
        status, answer = gateway.ask("string-north")
        assert (status, answer["choices"][0]["message"]["content"]) == (200, "tenalp")
        streamed = home.run(
            "ask", "--url", gateway.url, "-m", "string-north", "--temperature", "0", "--stream", QUESTION
        )
        assert streamed.stdout == "tenalp\n"
        assert (
            "There is no model"
            in home.run("ask", "--url", gateway.url, "-m", "nobody", QUESTION, code=2).stderr
        )
        assert gateway.stop() == 0
    report = home.json("runs", "verify")
    assert (report["ok"], report["notes"]) == (True, [])


def test_several_processes_share_one_port(home: Home) -> None:
    """Each process that dies is replaced while the others go on answering, and one signal ends them all."""
    with home.serve("--workers", "2") as gateway:
        status, health = gateway.call("GET", "/health")
        assert status == 200
        os.kill(int(health["process"].split("-")[-2]), signal.SIGKILL)
        assert gateway.process.stderr is not None
        assert "another one is started" in gateway.process.stderr.readline()
        assert gateway.ask("string-north")[0] == 200
        assert gateway.stop() == 0


def test_keys_open_the_door_that_they_close(home: Home) -> None:
    """Without a key nobody else may reach it; with one, callers need it; a revoked one opens nothing."""
    assert "without a key" in home.run("serve", "--host", "0.0.0.0", "--port", "0", code=2).stderr
    made = home.json("keys", "create", "alice", "--total", "5", "--model", "string*", "--expires", "1d")
    listed = home.json("keys", "list")
    assert [(key["id"], key["state"], key["windows"][0]["ceiling_usd"]) for key in listed] == [
        (made["id"], "live", 5.0)
    ]
    assert made["key"] not in (home.folder / ".stretto" / "index.sqlite3").read_bytes().decode("latin-1")
    with home.serve() as gateway:
        assert gateway.ask("string-north")[0] == 401
        assert gateway.ask("string-north", made["key"])[0] == 200
        assert gateway.ask("number-north", made["key"])[0] == 403
    assert "is revoked" in home.run("keys", "revoke", made["id"]).stdout
    assert home.json("keys", "list")[0]["state"] == "revoked"
    assert "takes 12h, 30d" in home.run("keys", "create", "bob", "--expires", "soon", code=2).stderr


def test_the_pool_is_listed_and_really_asked(home: Home) -> None:
    """`pool list` shows the sparring models when there is nothing else, `pool check` asks each and says how it went."""
    assert {worker["id"] for worker in home.json("pool", "list")} == {*EU, *US}
    checked = home.json("pool", "check")
    assert all(check["ok"] and check["seconds"] > 0 for check in checked)
    broken = home.folder / "broken.gguf"
    broken.write_bytes(b"GGUF, but no more")
    home.config.write_text(f'[[worker]]\nid = "mine"\npath = "{broken}"\n')
    (failed,) = home.json("pool", "check", code=1)
    assert not failed["ok"]
    assert "broken.gguf" in failed["error"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("ask", "-m", "string-nort", "x"), 'There is no model "string-nort"; did you mean "string-north"'),
        (("ask", "--require", "region=mars", "x"), "no worker satisfies this request"),
        (("ask", "--require", "mars", "x"), "is not LABEL=VALUE"),
        (("ask", "--limit-usd", "0.0000001", "x"), "limit: usd: this call may cost up to"),
        (("ask", "--url", "http://127.0.0.1:9/v1", "x"), "is a gateway running there?"),
        (("ask", "--config", "none.toml", "x"), "none.toml: cannot be read"),
        (("runs", "show"), "nothing has been recorded yet"),
        (("runs", "show", "run_x"), "no such run"),
        (("keys", "revoke", "key_x"), "there is no key 'key_x'"),
        (("sparring", "problems", "--family", "adition"), 'did you mean "addition"?'),
        (("sreve",), 'There is no command "sreve"; did you mean "serve"?'),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(home: Home, arguments: tuple[str, ...], says: str) -> None:
    """Every foreseen error ends with 2 and a line that names what to do, never with a traceback."""
    assert says in home.run(*arguments, code=2).stderr


class Upstream(ThreadingHTTPServer):
    """A model server that holds back its first answer until `released`."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked, self.released = threading.Event(), threading.Event()
        super().__init__(("127.0.0.1", 0), Answering)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that are killed leave: no reason to complain."""


class Answering(BaseHTTPRequestHandler):
    """Answers every question with `late`."""

    server: Upstream

    def do_POST(self) -> None:
        """One chat completion."""
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.set()
        self.server.released.wait(60)
        message = {"role": "assistant", "content": "late"}
        usage = {"prompt_tokens": 3, "completion_tokens": 1}
        body = json.dumps(
            {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def test_a_run_that_was_killed_is_finished_later(home: Home) -> None:
    """After kill -9 the run is listed as interrupted, its call as unknown, and `runs resume` brings the answer."""
    upstream = Upstream()
    home.config.write_text(
        f'[[worker]]\nid = "slow"\nendpoints = [{{ base_url = "http://127.0.0.1:{upstream.server_port}/v1" }}]\n'
        "price = { input = 1.0, output = 2.0 }\n"
    )
    asking = subprocess.Popen([*COMMAND, "ask", "-m", "slow", "x"], env=home.environ, cwd=home.folder)
    assert upstream.asked.wait(60)
    asking.kill()
    asking.wait()
    (cut,) = home.json("runs", "list")
    assert (cut["status"], cut["calls"]) == ("interrupted", 1)
    assert home.json("runs", "show")["attempts"][0]["outcome"] == "unknown"
    upstream.released.set()
    resumed = home.json("runs", "resume", cut["run"])
    assert (resumed["answer"], resumed["calls"]) == ("late", 2)
    shown = home.json("runs", "show", cut["run"])
    assert (shown["status"], shown["resumed"], shown["consistent"]) == ("finished", 1, True)
    assert home.json("runs", "verify")["ok"]
    upstream.shutdown()
    upstream.server_close()


def test_a_mistake_in_the_configuration_is_named(home: Home) -> None:
    """File, line, key and the right word, whichever command reads it."""
    home.config.write_text("[server]\nprot = 8700\n")
    for command in (("serve",), ("ask", "x"), ("runs", "list")):
        told = home.run(*command, code=2).stderr
        assert f'{home.config}:2: server.prot: unknown key; did you mean "port"?' in told


def test_the_environment_is_read(home: Home, tmp_path: Path) -> None:
    """`STRETTO_DATA` moves the data folder, and `ask -` reads standard input."""
    elsewhere = tmp_path / "elsewhere"
    asked = home.run(
        "ask", "-m", "string-north", "--temperature", "0", "-", input=QUESTION, STRETTO_DATA=str(elsewhere)
    )
    assert asked.stdout == "tenalp\n"
    assert (elsewhere / "index.sqlite3").exists()
    assert not (home.folder / ".stretto").exists()


def test_training_without_the_extra_names_it(home: Home) -> None:
    """`sparring train` says what to install when torch, or gguf, is not there."""
    (home.folder / "torch.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n"
    )
    told = home.run("sparring", "train", "string-north", code=2, PYTHONPATH=str(home.folder)).stderr
    assert re.search("training needs (torch|gguf), which is not installed", told)
    assert "stretto[train]" in told


def test_problems_are_made_from_a_seed(home: Home) -> None:
    """Equal seeds give equal problems, with their answers as JSON lines."""
    lines = home.run("sparring", "problems", "-n", "4", "--seed", "7", "--json").stdout.splitlines()
    assert len({json.loads(line)["family"] for line in lines}) == 4
    assert lines == home.run("sparring", "problems", "-n", "4", "--seed", "7", "--json").stdout.splitlines()
    assert {entry["id"] for entry in home.json("sparring", "list")} == {*EU, *US}


def test_every_set_of_problems_can_be_looked_at(home: Home) -> None:
    """Composites tell their steps, hand-overs what was given, roles what they are asked; a set without families refuses one."""

    def shown(*options: str) -> list[str]:
        return home.run("sparring", "problems", "-n", "2", *options).stdout.splitlines()

    (first, _) = (json.loads(line) for line in shown("--set", "composite", "--pairs", "--json"))
    assert "+".join(step["family"] for step in first["steps"]) == first["family"]
    assert shown("--set", "handover")[0].startswith("Given: ")
    assert shown("--set", "thinker")[0].startswith("Task: ")
    assert shown("--set", "simple") != shown("--set", "simple", "--unseen")
    told = home.run("sparring", "problems", "--set", "judge", "--family", "gcd", code=2).stderr
    assert "a judge has its own" in told


@pytest.mark.parametrize("command", ["", "serve", "ask", "plan", "runs", "pool", "keys", "eval", "sparring"])
def test_help_teaches_by_example(home: Home, command: str) -> None:
    """Every command explains itself and shows how it is used."""
    told = home.run(*command.split(), "--help").stdout
    assert f"  stretto {command}".rstrip() in told
