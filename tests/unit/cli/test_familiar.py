"""`stretto eval` says where a policy was learned from the very items on which it is judged."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("numpy")

from stretto import artifacts
from stretto.cli.main import stretto
from stretto.evaluation.tables import read
from stretto.learning.promotion import item_mark
from stretto.learning.route_table import of_table
from tests.recorded_tables import made, write


@pytest.mark.parametrize(
    ("known", "told"), [(0, ""), (25, "route.json was learned from 25 of these 40 items")]
)
def test_items_that_an_artefact_was_learned_from_are_counted(tmp_path: Path, known: int, told: str) -> None:
    """A note in the report and on the terminal; none where all items are new to it."""
    table = read(write(tmp_path / "table", made(240)))
    dev = [item for item in table.items if item.split == "dev"]
    marks = " ".join(item_mark(item.prompt) for item in dev[:known])
    learned = of_table(table)
    learned = replace(learned, provenance=dict(learned.provenance) | {"learned_from": marks})
    artifacts.write(learned, tmp_path / "route.json")
    arguments = ["--artefact", tmp_path / "route.json", "--policy", "route", "--out", tmp_path / "out"]
    done = CliRunner().invoke(stretto, ["eval", "--recorded", str(tmp_path / "table"), *map(str, arguments)])
    assert done.exit_code == 0, done.output
    report = (tmp_path / "out" / "report.md").read_text()
    for text in (report, done.stdout):
        assert ("was learned from" in text) is bool(told)
        assert told in text
