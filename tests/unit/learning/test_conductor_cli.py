"""`stretto train conductor`: what it refuses, and what it says without the libraries that training needs."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from stretto.cli.train import train
from stretto.errors import ConfigError, StrettoError

TORCH = find_spec("torch") is not None


def run(*arguments: str) -> BaseException | None:
    """What the command fails with."""
    return CliRunner().invoke(train, ["conductor", *arguments]).exception


@pytest.mark.skipif(TORCH, reason="torch is installed")
def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """And how not to fetch gigabytes."""
    error = run("--out", str(tmp_path / "new"))
    assert isinstance(error, StrettoError)
    assert "pip install 'stretto[train]'" in str(error)


@pytest.mark.skipif(not TORCH, reason="the extra `train` is not installed")
def test_a_training_is_not_overwritten(tmp_path: Path) -> None:
    """One goes on with it, or names another folder."""
    (tmp_path / "checkpoint.pt").touch()
    error = run("--out", str(tmp_path))
    assert isinstance(error, ConfigError)
    assert "--resume" in str(error)


@pytest.mark.skipif(not TORCH, reason="the extra `train` is not installed")
@pytest.mark.parametrize(("without", "said"), [(["thinker-north"], "no sparring worker is called that")])
def test_workers_to_leave_out_must_be_there(tmp_path: Path, without: list[str], said: str) -> None:
    """Solvers only: the thinker is none of them."""
    error = run("--out", str(tmp_path / "new"), *(f"--without={name}" for name in without))
    assert isinstance(error, ConfigError)
    assert said in str(error)


def test_out_is_needed() -> None:
    """Nothing is trained into a folder that nobody named."""
    found = CliRunner().invoke(train, ["conductor"])
    assert found.exit_code == 2
    assert "--out" in found.output
