"""How long each worker's answers have been lately, in each of its roles: what the expectation before a call rests on."""

import sqlite3
from dataclasses import dataclass
from typing import Final

__all__ = ["Usual", "usual"]

_MOST: Final = 2000

_LATELY: Final = """
SELECT worker, role, avg(output) AS output, avg(seconds) AS seconds, count(*) AS calls
FROM (SELECT worker, role, output, seconds, outcome FROM attempts ORDER BY run DESC LIMIT ?)
WHERE outcome = 'answered' AND output IS NOT NULL AND seconds IS NOT NULL
GROUP BY worker, role
ORDER BY calls DESC
"""


@dataclass(frozen=True, slots=True)
class Usual:
    """What a worker usually wrote in a role: the mean of output tokens and of seconds over so many `calls`."""

    worker: str
    role: str
    output: float
    seconds: float
    calls: int


def usual(connection: sqlite3.Connection, most: int = _MOST) -> tuple[Usual, ...]:
    """By the last `most` attempts of the index: the commonest first. Failures do not count."""
    rows = connection.execute(_LATELY, (most,)).fetchall()
    return tuple(
        Usual(row["worker"], row["role"], row["output"], row["seconds"], row["calls"]) for row in rows
    )
