"""`stretto merge`: from names to a file that serves and says where it comes from, or a message that says what to do."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("cmaes")
pytest.importorskip("gguf")

from stretto.cli.main import stretto
from stretto.learning.merging import read_model
from stretto.pool.gguf import read_gguf_header
from tests.tiny_gguf import tiny_gguf

QUICK = ("--evaluations", "10", "--items", "8", "--test", "16", "--family", "count-vowels")


def _run(*words: str) -> Result:
    return CliRunner().invoke(stretto, ["merge", *words])


def test_the_help_teaches() -> None:
    """What it needs, what it does, how to go on, and how to serve the outcome stand in the help."""
    said = " ".join(_run("--help").output.split())
    for words in ("Examples:", "one base", "F16 or F32", "kill -9", "[[worker]]", "95 % intervals", "--base"):
        assert words in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("string-nort", "list-north"), '"string-nort" is no GGUF file and no worker with one'),
        (("string-north",), "two or three models, not 1"),
        (("string-north", "string-north"), "different models"),
        (("string-north", "words-south"), "no common base"),
        (("general-small", "general-large", "--across-bases"), "only models of one shape"),
        (("string-north", "list-north", "--base", "words-south"), "no common base"),
        (("string-north", "list-north", "--family", "sorting"), 'no problem family "sorting"'),
        (
            ("string-north", "list-north", "--start", "sum"),
            'no start "sum"; there are best, mean, string-north',
        ),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    """Each mistake is one line and exit code 2; nothing is written where the model would be."""
    done = _run(*words, *QUICK, "--out", str(tmp_path / "out.gguf"))
    assert done.exit_code == 2
    assert told in " ".join(done.output.split())
    assert not (tmp_path / "out.gguf").exists()


def test_two_sparring_models_become_one(tmp_path: Path) -> None:
    """The real models, the real llama.cpp: a table, a file that says where it comes from, a picture; again costs nothing new."""
    out = tmp_path / "north.gguf"
    words = ("string-north", "list-north", *QUICK, "--sigma", "0.1", "--out", str(out))
    done = _run(*words)
    assert done.exit_code == 0, done.output
    assert "merged against it (paired)" in done.output
    assert "16 held-out problems of 1 families" in done.output
    info = read_gguf_header(out)
    assert (info.name, info.licence, info.layers) == ("north", "apache-2.0", 3)
    note = json.loads(read_model(out).fields["stretto.merge"][2])
    assert [parent["name"] for parent in note["parents"]] == ["string-north", "list-north"]
    assert note["method"] == "weights"
    assert note["evaluations"] == 13
    work = tmp_path / "north.merge"
    assert {file.name for file in work.iterdir()} == {"log.jsonl", "report.json", "learning-curve.svg"}
    log, bytes_ = (work / "log.jsonl").read_bytes(), out.read_bytes()
    again = _run(*words, "--json")
    report = json.loads(again.output)
    assert [row["model"] for row in report["rows"]] == [
        "string-north",
        "list-north",
        "uniform mean",
        "merged",
    ]
    assert (work / "log.jsonl").read_bytes() == log
    assert out.read_bytes() == bytes_


def test_any_gguf_files_can_be_merged_with_a_base(tmp_path: Path) -> None:
    """Files of one's own, one of them a configured worker, by task arithmetic; unknown families mean all of them."""
    files = [tiny_gguf(tmp_path / f"{name}.gguf", seed=seed) for seed, name in enumerate("abc")]
    config = tmp_path / "stretto.toml"
    config.write_text('[[worker]]\nid = "mine"\npath = "b.gguf"\n')
    out = tmp_path / "out.gguf"
    words = ("--evaluations", "10", "--items", "8", "--test", "8", "--config", str(config), "--json")
    done = _run(str(files[0]), "mine", "--base", str(files[2]), *words, "--out", str(out))
    assert done.exit_code == 0, done.output
    report = json.loads(done.output)
    assert report["merge"]["method"] == "arithmetic"
    assert len(report["merge"]["families"]) == 20
    assert report["merge"]["base"]["name"] == "c"
    assert report["verdict"].startswith("No gain shown")


KILLED = ("string-north", "list-north", *QUICK, "--sigma", "0.5")


def _killed(out: Path, after: int) -> None:
    """The command in a process of its own, killed with -9 once its log has this many bytes."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    words = [
        sys.executable,
        "-c",
        "from stretto.cli import main; main()",
        "merge",
        *KILLED,
        "--out",
        str(out),
    ]
    log = out.with_suffix(".merge") / "log.jsonl"
    with subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        while not log.is_file() or log.stat().st_size < after:
            try:
                ended = child.wait(0.005)
            except subprocess.TimeoutExpired:
                continue
            assert child.stderr is not None
            raise AssertionError(
                f"it ended with {ended} before it could be killed: {child.stderr.read().decode()}"
            )
        child.kill()
    assert not out.exists()


def test_a_command_that_is_killed_at_random_points_ends_in_the_same_model(tmp_path: Path) -> None:
    """`kill -9` and the same command again: every score, the chosen mixture and the file are those of an undisturbed run."""
    whole, torn = tmp_path / "whole" / "out.gguf", tmp_path / "torn" / "out.gguf"
    assert _run(*KILLED, "--out", str(whole)).exit_code == 0
    log = (tmp_path / "whole" / "out.merge" / "log.jsonl").read_bytes()
    lot = random.Random(6)
    header = log.index(b"\n") + 1
    for after in sorted(lot.randrange(header + 1, len(log)) for _ in range(2)):
        _killed(torn, after)
        assert log.startswith((tmp_path / "torn" / "out.merge" / "log.jsonl").read_bytes())
    done = _run(*KILLED, "--out", str(torn))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "torn" / "out.merge" / "log.jsonl").read_bytes() == log
    assert torn.read_bytes() == whole.read_bytes()
    reports = [
        json.loads((tmp_path / name / "out.merge" / "report.json").read_text()) for name in ("whole", "torn")
    ]
    assert reports[0] == reports[1]
    assert {file.name for file in torn.with_suffix(".merge").iterdir()} == {
        "log.jsonl",
        "report.json",
        "learning-curve.svg",
    }
