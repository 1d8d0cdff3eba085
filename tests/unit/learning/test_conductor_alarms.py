"""The alarms of the Conductor's training: each fires on what it is for, and not on a healthy training."""

from dataclasses import replace

from stretto.learning.conductor.alarms import Limits, Reading, alarm, best_place, entropy

LIMITS = Limits()
START = Reading(0, parsed=0.98, right=0.3, spread=0.95, held=0.4, single=0.25)


def healthy(rounds: int) -> list[Reading]:
    """A training that goes well."""
    return [replace(START, round=r, right=0.3 + 0.05 * r, held=0.4 + 0.04 * r) for r in range(rounds)]


def test_a_healthy_training_goes_on() -> None:
    """No alarm at any time, not even before the first reading."""
    readings = healthy(10)
    assert all(alarm(readings[:n], LIMITS) is None for n in range(11))


def test_workflows_that_cannot_be_read_stop_it_at_once() -> None:
    """Also where those that can be read are right more often than ever: the two are read apart."""
    bad = replace(healthy(5)[-1], parsed=0.7, right=0.99, held=0.9)
    assert str(alarm([*healthy(5), bad], LIMITS)).startswith("parse: 0.700")


def test_one_worker_for_everything_is_a_collapse() -> None:
    """After two readings: one may be chance. The reward does not show it."""
    bad = replace(START, spread=0.1, held=0.7, right=0.9)
    assert alarm([*healthy(3), bad], LIMITS) is None
    assert str(alarm([*healthy(3), bad, bad], LIMITS)).startswith("collapse: ")


def test_a_narrow_choice_that_still_gets_better_is_no_collapse() -> None:
    """Early on everything goes to the strongest generalist, and then to specialists: no alarm while held-out accuracy rises."""
    narrow = replace(START, spread=0.1, held=0.5)
    assert alarm([START, narrow, replace(narrow, held=0.55)], LIMITS) is None
    assert str(alarm([START, narrow, narrow], LIMITS)).startswith("collapse: ")


def test_less_than_the_best_single_worker_is_regret() -> None:
    """Orchestration that is worse than no orchestration."""
    bad = replace(START, held=0.2)
    assert str(alarm([START, bad, bad], LIMITS)).startswith("regret: 0.200")


def test_a_falling_held_out_curve_stops_it() -> None:
    """Rewards may still rise: what is learned does not hold on other problems."""
    readings = [*healthy(8), *(replace(START, held=0.55, right=0.95) for _ in range(2))]
    assert str(alarm(readings, LIMITS)).startswith("held-out: 0.550 after 0.680")
    assert alarm([*readings[:-1], replace(START, held=0.66)], LIMITS) is None


def test_one_goes_back_to_the_best_sound_reading() -> None:
    """The highest on held-out problems, the earliest of equals; none that raises an alarm by itself."""
    readings = healthy(4)
    assert best_place(readings, LIMITS) == 3
    assert best_place([*readings, readings[-1]], LIMITS) == 3
    assert best_place([*readings, replace(START, held=0.99, parsed=0.5)], LIMITS) == 3
    assert best_place([*readings, replace(START, held=0.99, spread=0.1)], LIMITS) == 3
    assert best_place([replace(START, parsed=0.1)], LIMITS) == 0


def test_the_spread_over_workers() -> None:
    """1 for an even choice, 0 for always the same, 1 where there is nothing to choose or to count."""
    assert entropy([5, 5, 5, 5]) == 1.0
    assert entropy([20, 0, 0, 0]) == 0.0
    assert 0.4 < entropy([18, 2, 1, 1]) < 0.6
    assert entropy([0, 0]) == entropy([7]) == 1.0
