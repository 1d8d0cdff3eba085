"""A command that takes long says at once that its result cannot be written, not at its end."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from stretto.cli.main import stretto
from stretto.cli.options import writable
from stretto.errors import ConfigError

COMMANDS = {
    "train evidence nothing": ["numpy", "scipy"],
    "train route nothing": [],
    "train trinity --pool sparring": ["cmaes", "gguf"],
    "train conductor --pool sparring": ["torch"],
    "merge string-north list-north": ["cmaes", "gguf"],
    "eval --sparring --n 2": [],
    "eval --recorded nothing": [],
    "sparring calibrate": [],
    "sparring train words-south": ["torch"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_that_cannot_be_written_is_refused_first(command: str, tmp_path: Path) -> None:
    """Below a file there is no folder: every command with --out says so before it reads, asks or learns anything, and leaves
    nothing behind."""
    for library in COMMANDS[command]:
        pytest.importorskip(library)
    (tmp_path / "file").write_text("taken")
    out = tmp_path / "file" / "deep" / "made"
    done = CliRunner().invoke(
        stretto, [*command.split(), "--out", str(out)], env={"STRETTO_DATA": str(tmp_path / "data")}
    )
    assert done.exit_code == 2
    told = done.output.strip().splitlines()[-1]
    where = f"nothing can be written in {tmp_path / 'file'}: Not a directory"
    assert told == f"Error: {where}; name another place by --out"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_trying_leaves_nothing_behind(tmp_path: Path) -> None:
    """Where it can be written nothing is made yet: no folder, no file; a name that is too long is refused, too."""
    writable(tmp_path / "a" / "b" / "evidence.json")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="name too long"):
        writable(tmp_path / ("x" * 300) / "evidence.json")
