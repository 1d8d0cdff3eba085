"""`stretto eval --json`: what scripts read is JSON and nothing else; whatever else there is to say goes to the other stream."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("numpy")

from stretto.cli.main import stretto
from tests.recorded_tables import made, write


def evaluated(folder: Path, policy: str) -> Result:
    named = ["--policy", policy, "--out", str(folder / "out"), "--json"]
    return CliRunner().invoke(stretto, ["eval", "--recorded", str(folder / "table"), *named])


def test_answers_that_are_put_aside_do_not_get_into_the_json(tmp_path: Path) -> None:
    """A second evaluation of another policy in the same folder says so beside its JSON, not in it."""
    write(tmp_path / "table", made(60))
    for policy in ("fuse", "fallback"):
        done = evaluated(tmp_path, policy)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["out"] == str(tmp_path / "out")
    assert "are put aside" in done.stderr


def test_a_missing_parquet_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow there is no `results.parquet`; the command says what to install."""
    write(tmp_path / "table", made(60))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = evaluated(tmp_path, "fallback")
    assert done.exit_code == 0, done.output
    assert "stretto[evidence]" in done.stderr
    assert not (tmp_path / "out" / "results.parquet").exists()
