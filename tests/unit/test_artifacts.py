"""Learned parameters on disk: what is refused, and what the refusal says to do."""

from pathlib import Path

import pytest

from stretto import artifacts
from stretto.artifacts import Artifact
from stretto.errors import ConfigError

SCHEMA = "stretto.evidence/3"


def refusal(path: Path, schema: str = SCHEMA) -> str:
    with pytest.raises(ConfigError) as caught:
        artifacts.read(path, schema)
    return str(caught.value)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Schema, provenance, data and hash come back as they were."""
    made = Artifact(SCHEMA, {"by": "a test"}, {"n": 1})
    artifacts.write(made, tmp_path / "evidence.json")
    assert artifacts.read(tmp_path / "evidence.json", SCHEMA) == made


def test_an_artefact_of_another_edition_is_to_be_learned_anew(tmp_path: Path) -> None:
    """An older form of the same schema says so; another schema is simply the wrong file."""
    path = tmp_path / "evidence.json"
    artifacts.write(Artifact("stretto.evidence/2", {}, {"n": 1}), path)
    told = refusal(path)
    assert "has schema 'stretto.evidence/2', needed is 'stretto.evidence/3'" in told
    assert "learn it anew, or move it away" in told
    assert "anew" not in refusal(path, "stretto.trinity/1")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "stretto.evidence/3", "data": {}}', "\x00"])
def test_a_file_of_something_else_is_no_artefact(tmp_path: Path, text: str) -> None:
    """Whatever the file holds, the refusal names it and its form."""
    path = tmp_path / "evidence.json"
    path.write_text(text)
    assert refusal(path) == f"artefact {path}: is not an artefact (JSON with schema, provenance, data)"


def test_changed_data_is_refused(tmp_path: Path) -> None:
    """An edit by hand is noticed by the hash that decisions refer to."""
    path = tmp_path / "evidence.json"
    artifacts.write(Artifact(SCHEMA, {}, {"n": 1}), path)
    path.write_text(path.read_text().replace('"n": 1', '"n": 2').replace('"n":1', '"n":2'))
    assert "hash does not match" in refusal(path)


def test_an_absent_artefact_is_named(tmp_path: Path) -> None:
    """A path that leads nowhere is told with the system's reason."""
    assert "cannot be read: No such file" in refusal(tmp_path / "none.json")
