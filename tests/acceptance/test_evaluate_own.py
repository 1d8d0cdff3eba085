"""`stretto eval` as it is typed: prompts of one's own over real models, recorded outcomes, the audit, and mistakes."""

import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from stretto import sparring
from tests.acceptance.test_cli import COMMAND, Home
from tests.recorded_tables import made, write

LEARNED = Path(sparring.__file__).parent / "artifacts" / "evidence.json"
WORDS = ("planet", "garden", "silver", "window", "bridge", "forest", "candle", "rocket")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def own(home: Home, *broken: str) -> Path:
    """Prompts that the sparring models know, as JSON lines."""
    file = home.folder / "mine.jsonl"
    rows = [
        {"prompt": f"Spell the word {word} backward.", "reference": word[::-1], "task": "spell"}
        for word in WORDS
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "".join(broken))
    return file


def test_prompts_of_ones_own_end_to_end(home: Home) -> None:
    """Two workers and a policy answer, the report is written, a second run asks nobody, the audit shows what was graded."""
    pytest.importorskip("numpy")
    file = own(home)
    options = [
        "--worker",
        "string-north,digits-south",
        "--policy",
        "fuse",
        "--temperature",
        "0",
        "--out",
        "out",
    ]
    told = home.run("eval", "--tasks", str(file), *options).stdout
    assert "string-north" in told
    assert "best single" in told
    asked = home.json("runs", "list", "--purpose", "evaluation", "-n", "100")
    lines = (home.folder / "out" / "results.jsonl").read_text()
    assert home.run("eval", "--tasks", str(file), *options).stdout == told
    assert (home.folder / "out" / "results.jsonl").read_text() == lines
    assert home.json("runs", "list", "--purpose", "evaluation", "-n", "100") == asked
    shown = home.json("eval", "audit", "out", "-n", "3", "--contender", "string-north")
    assert len(shown) == 3
    assert {one["result"]["contender"] for one in shown} == {"string-north"}
    assert "grade" in home.run("eval", "audit", "out", "-n", "2").stdout


def test_recorded_outcomes_end_to_end(home: Home) -> None:
    """A folder of recorded outcomes needs no model; a dial may follow a policy's name; the verdict is printed."""
    pytest.importorskip("numpy")
    write(home.folder / "table", made(240))
    told = home.json("eval", "--recorded", "table", "--policy", "fuse,fuse@0.9", "--out", "out")
    assert (told["n"], told["best"]) == (40, "dear")
    summary = json.loads((home.folder / "out" / "summary.json").read_text())
    assert [row["name"] for row in summary["rows"] if row["kind"] == "policy"] == ["fuse", "fuse@0.9"]


def test_mistakes_are_told_in_one_line(home: Home) -> None:
    """A broken line, a missing folder, two sources, an option that does not go with the source, a folder that cannot be made, an
    artefact of another pool.
    """
    pytest.importorskip("numpy")
    file = own(home, '{"prompt": "x"}\n')
    write(home.folder / "table", made(240))
    for arguments, told in (
        (["--tasks", str(file)], "mine.jsonl line 9: has no reference"),
        (["--recorded", "nowhere"], "nowhere: there is no such folder"),
        (["--tasks", str(file), "--sparring"], "say on what to evaluate"),
        ([], "say on what to evaluate"),
        (["--tasks", str(file), "--url", "http://x/v1"], "--url does not go with --tasks"),
        (["--sparring", "--grader", "number"], "--grader does not go with --sparring"),
        (["audit", "nowhere"], "holds no evaluation"),
        (["--tasks", str(file), "--out", str(file / "out")], "Error: "),
        (
            ["--recorded", "table", "--policy", "sequential", "--artefact", str(LEARNED)],
            "was learned about string-north, number-north, list-north, words-south, digits-south, ...; none",
        ),
    ):
        assert told in home.run("eval", *arguments, code=2).stderr


def test_whoever_breaks_off_is_told_that_nothing_is_lost(home: Home) -> None:
    """Ctrl-C while workers are asked is no crash: exit code 130, and how to go on."""
    pytest.importorskip("numpy")
    own(home)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        home.config.write_text(
            "".join(f'[[worker]]\nid = "{w}"\nendpoints = [{{ base_url = "{place}" }}]\n' for w in "ab")
        )
        process = subprocess.Popen(
            [*COMMAND, "eval", "--tasks", "mine.jsonl", "--policy", "fuse", "--out", "out"],
            stderr=subprocess.PIPE,
            text=True,
            cwd=home.folder,
            env=home.environ,
            # a shell's background job, which a test run may be, is deaf to it
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            asked, _ = silent.accept()
            with asked:
                process.send_signal(signal.SIGINT)
                _, told = process.communicate(timeout=120)
        finally:
            process.kill()
            process.communicate()
    assert "Stopped. out keeps what was answered: the same command goes on." in told
    assert "Traceback" not in told
    assert process.returncode == 130
