"""Nothing that was acknowledged is ever lost: real gateways, killed with -9 under load."""

import asyncio
from pathlib import Path

from tests.acceptance.crashes import storm

KILLS = 20
SEED = 20_261_120


def test_kills_under_load_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """After 20 kills on one data folder every acknowledged call is in the ledger as it was told, every intent is settled or
    reported unknown, all chains verify, no money stays reserved, and nothing is left lying about.
    """
    found = asyncio.run(storm(tmp_path, KILLS, SEED, longest=0.3))
    print(found)
    assert found.violations == []
    assert found.kills == KILLS
    assert found.acknowledged > 10 * KILLS
    assert found.lost >= KILLS
    assert found.unknown > 0
    assert found.leftovers == []
