"""The drift monitor: a worker whose replies become wrong is named within a few dozen of them, a healthy one hardly ever."""

import math
import random

import pytest

from stretto.ledger.drift import Alarm, Compared, Monitor, State, compared
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


def test_what_one_run_says_of_a_reply_is_weighed_together() -> None:
    """A reply that one contradicts and a third does not join is likelier to be wrong than two replies, each contradicted once."""
    together, apart = Monitor(), Monitor()
    said = Compared("a", False, 0.8, "b"), Compared("a", False, 0.5)
    together.see(*said)
    for one in said:
        apart.see(one)
    assert together.workers["a"].evidence == pytest.approx(math.log(0.7 + 0.3 * (0.95 / 0.2) * (0.95 / 0.5)))
    assert together.workers["a"].evidence > apart.workers["a"].evidence
    assert together.workers["b"].evidence == apart.workers["b"].evidence
    assert together.workers["a"].seen == apart.workers["a"].seen == 2


def test_who_is_doubted_and_then_joined_is_cleared() -> None:
    """Of two that differ the one whom a third joins has nothing left against it; more speaks against the other than before."""
    monitor, before = Monitor(), Monitor()
    first = Compared("b", False, 0.8, "a")
    monitor.see(first, Compared("c", True, 0.8), Compared("a", True, 0.4), Compared("b", False, 0.4))
    before.see(first)
    assert monitor.workers["a"].evidence == 0.0
    assert monitor.workers["b"].evidence > before.workers["b"].evidence > 0


def test_healthy_runs_of_three_prove_nothing_in_the_mean() -> None:
    """The ratio of a run is one in the mean while everybody is healthy: what bounds false alarms at one in a thousand."""
    total = 0.0
    for agree, share in ((True, 0.8), (False, 0.2)):
        for joins, chance in ((True, 0.4), (False, 0.6)):
            monitor = Monitor()
            monitor.workers["a"] = State(evidence=3.0)
            monitor.see(Compared("b", agree, 0.8, "a"), Compared("a", joins, 0.4))
            total += share * chance * math.exp(monitor.workers["a"].evidence - 3.0)
    assert total == pytest.approx(1.0)


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
