"""The drift monitor: a worker whose replies become wrong is named within a few dozen of them, a healthy one hardly ever."""

import random

import pytest

from stretto.ledger.drift import Alarm, Compared, Monitor, compared
from stretto.ledger.events import Chose


def until_alarm(rate: float, seed: int, *, most: int, expected: float = 0.8) -> tuple[Alarm | None, int]:
    """Replies of worker `a`, held against what several gave, that agree with this chance: the first alarm, and after how many."""
    rng, monitor = random.Random(seed), Monitor()
    for number in range(1, most + 1):
        if (alarm := monitor.see(Compared("a", rng.random() < rate, expected))) is not None:
            return alarm, number
    return None, most


def test_a_fault_of_three_replies_in_ten_is_noticed_within_some_dozens() -> None:
    """Agreement falls from .80 to .575: half of 200 trials are noticed within 60 replies, nearly all within 200, and by name."""
    waits = []
    for seed in range(200):
        alarm, after = until_alarm(0.8 * 0.7 + 0.3 * 0.05, seed, most=400)
        assert alarm is not None
        assert alarm.worker == "a"
        assert alarm.seen == after
        waits.append(after)
    waits.sort()
    assert waits[100] <= 60
    assert waits[190] <= 200


def test_a_healthy_worker_is_hardly_ever_accused() -> None:
    """At its usual rate there are fewer than 3 alarms in 10,000 replies, over 30 streams."""
    alarms = 0
    for seed in range(30):
        rng, monitor = random.Random(seed), Monitor()
        alarms += sum(monitor.see(Compared("a", rng.random() < 0.8, 0.8)) is not None for _ in range(10_000))
    assert alarms / 30 < 3


def test_getting_better_is_no_alarm() -> None:
    """A worker that agrees more often than was expected gathers no evidence at all."""
    monitor = Monitor()
    assert all(monitor.see(Compared("a", True, 0.6)) is None for _ in range(2000))
    assert monitor.workers["a"].evidence == 0.0


def test_the_one_in_all_the_disagreements_is_named_not_its_company() -> None:
    """Where one reply stands against one other, both are suspects; over changing company only the faulty one is accused."""
    accused = []
    for seed in range(60):
        rng, monitor = random.Random(seed), Monitor()
        for _ in range(3000):
            one, other = rng.sample("abcd", 2)
            faulty = "a" in (one, other) and rng.random() < 0.3
            agrees = rng.random() < (0.05 if faulty else 0.8)
            if (alarm := monitor.see(Compared(one, agrees, 0.8, other))) is not None:
                accused.append(alarm.worker)
                break
    assert len(accused) == 60
    assert accused.count("a") >= 55


def test_an_alarm_begins_everything_anew() -> None:
    """After it nobody's evidence is left: the company of a faulty worker does not pay for it; a mended one has a clean slate."""
    monitor = Monitor()
    for _ in range(100):
        if (
            monitor.see(Compared("a", False, 0.9, "b")) is not None
            or monitor.see(Compared("a", False, 0.9)) is not None
        ):
            break
    assert {state.evidence for state in monitor.workers.values()} == {0.0}
    monitor.forget("a")
    assert monitor.workers["a"].seen == 0


def test_two_who_only_ever_stand_against_each_other_are_told_together() -> None:
    """Where nobody else speaks no alarm can name the faulty one; that something is wrong is said none the less."""
    monitor = Monitor()
    assert monitor.tied() == []
    assert all(monitor.see(Compared("a", k % 3 > 0, 0.9, "b")) is None for k in range(60))
    monitor.see(Compared("c", True, 0.9, "d"))
    assert monitor.tied() == ["a", "b"]


def chose(*options: tuple[str, dict[str, float], str]) -> Chose:
    """A recorded choice."""
    return Chose(run="r", time=0.0, at="1", picked="stop: a", options=options)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (("b with a", {"agrees": 1.0, "expected": 0.7}, "heard"), Compared("b", True, 0.7, "a")),
        (("b with several", {"agrees": 0.0, "expected": 0.7}, "heard"), Compared("b", False, 0.7, "")),
        (
            ("x with y with a", {"agrees": 0.0, "expected": 0.7}, "heard"),
            Compared("x with y", False, 0.7, "a"),
        ),
        (("b with a", {"agrees": 1.0, "expected": 0.7}, "worth less"), None),
        (("b with a", {"worth": 1.0}, "heard"), None),
        (("stop: a", {"sure": 1.0}, ""), None),
    ],
)
def test_comparisons_are_read_from_choices(
    option: tuple[str, dict[str, float], str], told: Compared | None
) -> None:
    """Options that tell of a reply, and no others."""
    assert list(compared([chose(option)])) == ([] if told is None else [told])
