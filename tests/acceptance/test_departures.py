"""A caller who leaves takes the whole call tree along, and is charged for what was consumed until then."""

import asyncio
from pathlib import Path

import pytest

from tests.acceptance.departures import departures


def test_who_leaves_ends_the_upstreams_work_and_pays_for_what_came(tmp_path: Path) -> None:
    """Whether before the first piece, after one or after ten: the upstream's connection is closed, the run is on record as
    cancelled, with what had been written by then; of a panel every member is.
    """
    found = asyncio.run(departures(tmp_path, 1))
    print(found.seconds, found.panel_seconds)
    assert found.open == 0
    for after, receipts in found.receipts.items():
        for receipt in receipts:
            (attempt,) = receipt["attempts"]
            assert (receipt["status"], receipt["error"]["kind"]) == ("failed", "cancelled")
            assert (attempt["outcome"], receipt["consistent"]) == ("cancelled", True)
            assert attempt["usage"]["input"] > 0
            assert attempt["usage"]["estimated"] is True
            assert attempt["usage"]["output"] >= after
            assert receipt["cost_pico"] == attempt["cost_pico"] > 0
    for receipt in found.panel:
        assert [attempt["outcome"] for attempt in receipt["attempts"]] == ["cancelled"] * 3
        assert receipt["cost_pico"] == pytest.approx(sum(a["cost_pico"] for a in receipt["attempts"]))
        assert (receipt["consistent"], receipt["error"]["kind"]) == (True, "cancelled")
