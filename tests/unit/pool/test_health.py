"""Cool-down, ejection and the way back, on a clock that the tests hold."""

import pytest

from stretto.pool.health import FAILURES, FIRST_EJECTION, LONGEST_COOLDOWN, LONGEST_EJECTION, Health


def ejected(now: float = 0.0) -> Health:
    health = Health()
    for _ in range(FAILURES):
        health.fail("upstream_error", now)
    return health


def test_five_failures_in_a_row_eject() -> None:
    """Four failures are borne, the fifth takes the endpoint out."""
    health = Health()
    told = [health.fail("cut", 0.0) for _ in range(FAILURES)]
    assert told == [False] * (FAILURES - 1) + [True]
    assert health.standing(0.0) == "ejected"


def test_success_between_failures_starts_anew() -> None:
    """Only failures in a row count."""
    health = Health()
    for _ in range(3 * FAILURES):
        health.fail("timeout", 0.0)
        health.succeed(0.0)
    assert health.standing(0.0) == "fit"
    assert health.clear


@pytest.mark.parametrize("kind", ["bad_request", "empty", "rate_limited"])
def test_what_says_nothing_about_health(kind: str) -> None:
    """A refused request, an empty answer and a rate limit do not eject."""
    health = Health()
    for _ in range(2 * FAILURES):
        health.fail(kind, 0.0, 0.0)  # type: ignore[arg-type]
    assert health.standing(0.1) == "fit"


def test_one_probe_decides() -> None:
    """After its time an endpoint is probed by one call; success brings it back, failure sends it away for longer."""
    health = ejected()
    due = FIRST_EJECTION
    assert health.standing(due - 0.1) == "ejected"
    assert health.standing(due) == "probe"
    health.offer(due)
    assert health.standing(due) == "ejected"  # somebody else is about to probe
    health.begin()
    assert health.standing(due + 100) == "ejected"  # the probe is under way
    assert health.fail("timeout", due)
    assert health.standing(due + 2 * FIRST_EJECTION - 0.1) == "ejected"
    assert health.standing(due + 2 * FIRST_EJECTION) == "probe"
    health.begin()
    health.succeed(due + 2 * FIRST_EJECTION)
    assert health.clear


def test_offer_that_nobody_takes_lapses() -> None:
    """An offered probe that does not begin, or is cancelled, is offered again."""
    health = ejected()
    health.offer(FIRST_EJECTION)
    assert health.standing(FIRST_EJECTION + 2) == "probe"
    health.begin()
    health.leave()
    assert health.standing(FIRST_EJECTION + 2) == "probe"


def test_ejections_grow_up_to_a_bound() -> None:
    """However often the probe fails, the next one is at most 30 s away."""
    health, now = ejected(), 0.0
    for _ in range(20):
        now = health.ejected_until
        health.fail("cut", now)
        assert health.ejected_until - now <= LONGEST_EJECTION
    assert health.ejected_until - now == LONGEST_EJECTION


def test_failures_of_calls_already_under_way_do_not_prolong() -> None:
    """Calls that were under way when the endpoint was ejected and fail later do not lengthen the ejection."""
    health = ejected()
    until = health.ejected_until
    assert not health.fail("cut", 1.0)
    assert health.ejected_until == until


def test_cool_down_until_the_time_that_was_named() -> None:
    """A rate limit cools down for as long as it says, at most 60 s; other calls' success does not end that."""
    health = Health()
    health.fail("rate_limited", 0.0, 7.0)
    health.succeed(1.0)
    assert health.standing(6.9) == "cooling"
    assert health.standing(7.0) == "fit"
    health.succeed(7.0)
    assert health.clear
    health.fail("rate_limited", 10.0, 9999.0)
    assert health.standing(10 + LONGEST_COOLDOWN) == "fit"


def test_cool_down_that_names_no_time() -> None:
    """Without a time it is 1 s, then twice as long each time, at most 60 s."""
    health, lengths = Health(), []
    for step in range(8):
        now = 1000.0 * step
        health.fail("rate_limited", now)
        lengths.append(health.cooled_until - now)
    assert lengths == [1, 2, 4, 8, 16, 32, 60, 60]
