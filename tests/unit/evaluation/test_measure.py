"""What policies are measured against: the best single worker of known cost, chosen on items that are not judged."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

np = pytest.importorskip("numpy")

from stretto.cli.main import stretto  # noqa: E402
from stretto.evaluation.comparison import Comparison, compare, recorded_columns, turned_of  # noqa: E402
from stretto.evaluation.runner import Result  # noqa: E402
from stretto.evaluation.stated import honesty  # noqa: E402
from stretto.evaluation.tables import Said, Table  # noqa: E402
from stretto.evaluation.tasks import recorded_items  # noqa: E402
from stretto.types import PICO  # noqa: E402
from tests.recorded_tables import made, write  # noqa: E402

TABLE = made(600)


def with_oracle() -> Table:
    """A worker more that is always right, and whose price nobody wrote down."""
    said = {w: {i.id: (TABLE.said(i.id, w),) for i in TABLE.items} for w in TABLE.workers}
    said["oracle"] = {i.id: (Said(1.0, None, answer=i.reference),) for i in TABLE.items}
    return Table("made", TABLE.items, said)  # type: ignore[arg-type]


def asking(worker: str, name: str, table: Table) -> dict[str, list[Result]]:
    """A policy that always asks one worker."""
    rows = []
    for item in table.items:
        s = table.said(item.id, worker)
        assert s is not None
        cost = round((s.cost or 0.0) * PICO)
        rows.append(Result(item.id, name, s.score, "", s.answer or "", cost, 1, 1.0, worker, (worker,), 0.9))
    return {name: rows}


def of(found: Comparison, name: str) -> tuple[float, str]:
    """Relative cost and verdict of a row."""
    return next((r.compared.cost, r.verdict) for r in found.rows if r.name == name)


def test_the_measure_has_a_price() -> None:
    """A better worker of unknown cost stands among the workers, and a note tells; costs are relative to one that has a price."""
    table = with_oracle()
    policies = asking("cheap", "thrifty", table) | asking("oracle", "seer", table)
    found = compare(recorded_items(table), recorded_columns(table), policies)
    assert found.best == "dear"
    assert of(found, "thrifty")[0] == pytest.approx(0.05)
    assert of(found, "best single, chosen before") == (1.0, "the measure")
    assert any(note.startswith("Better than dear") and "oracle (100.0)" in note for note in found.notes)
    assert {"oracle", "dear"} <= {r.name for r in found.rows if r.kind == "worker"}
    assert not any("oracle" in r.verdict for r in found.rows)


def test_what_asks_a_worker_of_unknown_cost_has_none_either() -> None:
    """It is not taken to be free."""
    table = with_oracle()
    policies = asking("oracle", "seer", table)
    found = compare(recorded_items(table), recorded_columns(table), policies)
    cost, verdict = of(found, "seer")
    assert np.isnan(cost)
    assert verdict == "better"


def test_where_nobody_has_a_price_the_best_of_all_is_the_measure() -> None:
    """Then only quality is compared."""
    said = {w: {i.id: (replace(TABLE.said(i.id, w), cost=None),) for i in TABLE.items} for w in TABLE.workers}  # type: ignore[type-var]
    found = compare(recorded_items(TABLE), recorded_columns(Table("made", TABLE.items, said)), {})
    assert found.best == "dear"
    assert any("No cost is known" in note for note in found.notes)


def test_the_measure_may_be_known_from_elsewhere() -> None:
    """Then it is that worker, whoever is best here, and the report says where it comes from."""
    items = [replace(item, split="") for item in recorded_items(TABLE)]
    policies = asking("dear", "mine", TABLE)
    found = compare(items, recorded_columns(TABLE), policies, single=("middle", "other items"))
    assert found.best == "middle"
    assert found.chosen_on.startswith("other items (what else is chosen")
    assert of(found, "mine")[0] == pytest.approx(5.0)
    assert of(found, "middle") == (1.0, "is the best single")


def test_a_row_tells_policy_and_dial_apart() -> None:
    """NAME@DIAL stands there as two columns; else it is the dial of the whole evaluation; how honest it was stands beside."""
    items = recorded_items(TABLE)
    policies = asking("dear", "mine@.25", TABLE) | asking("dear", "mine", TABLE)
    rows = {r.name: r for r in compare(items, recorded_columns(TABLE), policies, dial=0.5).rows}
    assert (rows["mine@.25"].policy, rows["mine@.25"].dial) == ("mine", 0.25)
    assert (rows["mine"].policy, rows["mine"].dial) == ("mine", 0.5)
    assert (rows["dear"].policy, rows["dear"].dial, rows["dear"].stated) == ("", None, None)
    told = rows["mine"].stated
    assert told is not None
    assert told.n == 100
    assert told.error == pytest.approx(abs(0.9 - rows["mine"].compared.score), abs=1e-6)
    assert turned_of("Llama-3@together") == ("Llama-3@together", None)


def test_honest_probabilities_err_no_more_than_luck() -> None:
    """Right as often as stated stays within the 95th percentile; ten points too sure does not; nothing stated is nothing."""
    stated = [0.05 + 0.1 * (k % 10) for k in range(2000)]
    rng = np.random.default_rng(3)
    right = (rng.random(2000) < np.array(stated)).astype(float).tolist()
    fair = honesty(stated, right)
    bold = honesty([min(1.0, p + 0.1) for p in stated], right)
    assert fair is not None
    assert bold is not None
    assert fair.error < fair.lucky < bold.error
    assert honesty([], []) is None


def shown(table: Table, folder: Path, *options: object) -> str:
    """What `eval --recorded` says of a table."""
    arguments = ["eval", "--recorded", write(folder / "table", table), "--out", folder / "out", *options]
    done = CliRunner().invoke(stretto, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_items_that_come_alone_are_measured_by_what_was_best_where_the_artefact_was_learned(
    tmp_path: Path,
) -> None:
    """Hidden items hold no others to choose on: choosing on themselves would be hindsight."""
    learned = tmp_path / "route.json"
    data = write(tmp_path / "public", TABLE)
    made_ = CliRunner().invoke(stretto, ["train", "route", "--data", str(data), "--out", str(learned)])
    assert made_.exit_code == 0, made_.output
    alone = TABLE.only(lambda item: item.split == "dev")
    hidden = Table("made", [replace(item, split="test") for item in alone.items], alone._said)
    options = ("--policy", "route", "--artefact", learned)
    assert "best single worker dear, chosen on what route.json was learned from" in shown(
        hidden, tmp_path / "a", *options
    )
    assert "chosen on the other 4 of 5 parts" in shown(hidden, tmp_path / "b", "--policy", "cheap")
    without = hidden.only(workers=["cheap", "middle"])
    assert "chosen on what route.json was learned from" in shown(without, tmp_path / "c", *options)


def test_a_measure_from_elsewhere_has_a_price_here(tmp_path: Path) -> None:
    """The best of a route table, if nobody wrote its price down, is not it: the next best is."""
    table, learned = with_oracle(), tmp_path / "route.json"
    data = write(tmp_path / "public", table)
    done = CliRunner().invoke(stretto, ["train", "route", "--data", str(data), "--out", str(learned)])
    assert done.exit_code == 0, done.output
    alone = table.only(lambda item: item.split == "dev")
    told = shown(alone, tmp_path / "a", "--policy", "cheap", "--artefact", learned)
    assert "best single worker dear, chosen on what route.json was learned from" in told


def test_one_split_may_be_asked_for(tmp_path: Path) -> None:
    """Items for choosing, public ones and hidden ones may lie in one folder."""
    items = [replace(i, split="test" if k % 12 == 5 else i.split) for k, i in enumerate(TABLE.items)]
    table = Table("made", items, TABLE._said)
    assert "\n100 items; " in shown(table, tmp_path / "all", "--policy", "cheap")
    assert "\n50 items; " in shown(table, tmp_path / "test", "--policy", "cheap", "--split", "test")


def test_a_worker_whose_name_holds_an_at_can_be_named(tmp_path: Path) -> None:
    """Only a number after the last `@` is a dial."""
    said = {w: {i.id: (TABLE.said(i.id, w),) for i in TABLE.items} for w in TABLE.workers}
    said["dear@here"] = said.pop("dear")
    table = Table("made", TABLE.items, said)  # type: ignore[arg-type]
    told = shown(table, tmp_path, "--policy", "dear@here,dear@here@0.5")
    assert "dear@here@0.5" in told


def test_sequential_needs_what_was_learned(tmp_path: Path) -> None:
    """Without an artefact the error says which option names one."""
    data = write(tmp_path / "table", TABLE)
    arguments = ["eval", "--recorded", data, "--policy", "cheap, sequential@.5", "--out", tmp_path / "out"]
    done = CliRunner().invoke(stretto, [str(a) for a in arguments])
    assert done.exit_code == 2
    assert "--policy sequential@.5: goes by what was learned; name it by --artefact FILE" in done.stderr
