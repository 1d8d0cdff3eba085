"""A worker that silently fails, through the engine and the record: noticed, named, and left out by the catalogue."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto.catalog import Catalog  # noqa: E402
from stretto.catalog.masks import Masks  # noqa: E402
from stretto.cli.main import stretto  # noqa: E402
from stretto.config import Settings  # noqa: E402
from stretto.engine.run import Engine  # noqa: E402
from stretto.evaluation.recorded import RecordedPool, question  # noqa: E402
from stretto.evaluation.tables import Said, Table  # noqa: E402
from stretto.learning.evidence.training import artefact, learn, matrix  # noqa: E402
from stretto.ledger.drift import watched  # noqa: E402
from stretto.ledger.journal import JournalStore  # noqa: E402
from stretto.policies.masked import Masked  # noqa: E402
from stretto.policies.sequential import Evidence, Sequential  # noqa: E402
from stretto.policies.solo import Solo  # noqa: E402
from stretto.testing import MemoryStore  # noqa: E402
from tests.recorded_tables import LIKE, made  # noqa: E402

TABLE = made(480, skill=LIKE)
DATA = matrix(TABLE, TABLE.workers)
EVIDENCE = Evidence(artefact(learn(DATA, size=3, dimensions=12), {"from": "a made table"}))
POLICY = Sequential(EVIDENCE, certified=False)


def failing(worker: str, every: int) -> Table:
    """The same table, but that a worker says nonsense to one item in `every`."""
    said = {w: {} for w in TABLE.workers}
    for number, item in enumerate(TABLE.items):
        for w in TABLE.workers:
            one = TABLE.said(item.id, w)
            assert one is not None
            wrong = w == worker and number % every == 0
            said[w][item.id] = (
                Said(0.0, one.cost, one.input, one.output, 1.0, f"Z{number}", None) if wrong else one,
            )
    return Table("made", TABLE.items, said)


def served(table: Table, store: object, requests: int) -> None:
    """So many items are asked of the policy at its best."""

    async def all_of_them() -> None:
        engine = Engine(RecordedPool(table), store)  # type: ignore[arg-type]
        for number in range(requests):
            await engine.run(
                POLICY, question(table.items[number % len(table.items)], dial=1.0), name="careful"
            )

    asyncio.run(all_of_them())


def test_a_healthy_pool_raises_no_alarm() -> None:
    """300 requests on the very items it was learned from: everyone agrees about as often as expected."""
    store = MemoryStore()
    served(TABLE, store, 300)
    found = watched(store)
    assert found.alarms == ()
    assert sum(s.seen for s in found.monitor.workers.values()) > 100
    for state in found.monitor.workers.values():
        assert state.agreed == pytest.approx(state.expected, abs=5 + 3 * state.seen**0.5)


def test_a_failing_worker_is_named_and_left_out(tmp_path: Path) -> None:
    """Every second reply of `middle` is nonsense: the command names it, leaves it out, and lets it play again."""
    store = JournalStore(tmp_path, content="digest")
    try:
        served(failing("middle", 2), store, 300)
    finally:
        store.close()
    look = CliRunner().invoke(stretto, ["drift", "--data", str(tmp_path), "--json"])
    assert look.exit_code == 0, look.output
    told = json.loads(look.output)
    assert {a["worker"] for a in told["alarms"]} == {"middle"}
    assert told["left_out"] == {}
    done = CliRunner().invoke(stretto, ["drift", "--mask", "--hours", "2", "--data", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "middle is left out from now on" in done.output
    catalog = Catalog(RecordedPool(TABLE).cards(), Settings(), masks=Masks(tmp_path).current)
    assert isinstance(catalog.resolve("fallback"), Masked)
    assert catalog.resolve("fallback") is catalog.resolve("fallback")
    assert catalog.resolve("middle") == Solo("middle")
    again = CliRunner().invoke(stretto, ["drift", "--mask", "--data", str(tmp_path)])
    assert "is left out from now on" not in again.output
    back = CliRunner().invoke(stretto, ["drift", "--unmask", "middle", "--data", str(tmp_path)])
    assert back.exit_code == 0, back.output
    wrong = CliRunner().invoke(stretto, ["drift", "--unmask", "middle", "--data", str(tmp_path)])
    assert wrong.exit_code == 2
    assert "is not left out" in wrong.output
