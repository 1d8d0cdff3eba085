"""A ceiling holds across processes, concurrency, failures and a kill: real processes on one data folder."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from stretto.ledger.book import statement
from stretto.ledger.journal import slab_use
from stretto.ledger.process import processes
from stretto.ledger.sqlite import connect, index_path, migrate
from tests.acceptance.spender import WORST, key

CEILING = 8000 * WORST


def start(*arguments: object) -> "subprocess.Popen[str]":
    """One of the processes of `spender`."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.spender", *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_share_a_ceiling_and_one_is_killed(tmp_path: Path) -> None:
    """With 100 callers in each of two processes, settled and reserved money never passes the ceiling at any look; one process is
    killed midway. In the end nothing is reserved, all that was spent is in the journals, and what is left can be had.
    """
    connection = connect(index_path(tmp_path))
    migrate(connection)
    watcher = start("watch", tmp_path, CEILING)
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == "watching\n"
    first, second = (start("spend", tmp_path, CEILING, 100, seed) for seed in (1, 2))
    assert second.stdout is not None
    for _ in range(30):
        assert second.stdout.readline()
    second.send_signal(signal.SIGKILL)
    third = start("spend", tmp_path, CEILING, 100, 3)
    for spender in (first, third):
        _, errors = spender.communicate(timeout=60)
        assert (spender.returncode, errors) == (0, "")
    assert second.wait() == -signal.SIGKILL
    last = start("exhaust", tmp_path, CEILING)
    assert last.communicate(timeout=60) == ("", "")
    looks, errors = watcher.communicate("", timeout=60)
    assert errors == ""
    samples, most = map(int, looks.split())
    total = statement(connection, key(CEILING), time.time()).total
    uses = [use for process in processes(tmp_path) for use in slab_use(tmp_path, process).values()]
    connection.close()
    second.communicate()
    assert total.reserved == 0
    assert total.spent == sum(use.settled + use.unknown for use in uses)
    assert samples > 100
    assert CEILING * 0.9 < most <= CEILING
