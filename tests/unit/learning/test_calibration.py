"""What is learned of a pool from calibration problems."""

from stretto.learning.calibration import COMPOSITE, TASKS, Observation, asked, route_table, thresholds
from stretto.policies.route import Table
from stretto.sparring.problems import FAMILIES, handovers, problems


def test_every_kind_of_task_is_asked_and_composites_are_one_kind():
    """The families and the composites take turns: as many of each."""
    kinds = [task for task, _ in asked("calibration", 10 * len(TASKS), 1)]

    assert {task: kinds.count(task) for task in TASKS} == dict.fromkeys(TASKS, 10)
    assert all(bool(p.steps) == (task == COMPOSITE) for task, p in asked("calibration", 42, 1))


def test_the_table_recognises_every_kind_of_task_and_knows_who_is_good_at_it():
    """Naive Bayes over the wording alone names the kind of at least 95 % of calibration prompts."""
    seen = [Observation("w", task, i % 4 > 0, 0.5) for task in TASKS for i in range(8)]

    table = Table(route_table(seen, {}, n=6000, seed=5))

    those = asked("calibration", 420, 6)
    assert sum(table.guess(p.prompt).task == task for task, p in those) >= 0.95 * len(those)
    assert table.estimates(TASKS[0]) == {"w": 7 / 10}


def test_a_table_takes_a_composite_for_one():
    """What asks for two skills is not taken for the one whose words it begins with: nine times in ten."""
    table = Table(route_table([], {}, n=6000, seed=5))

    chained = [p for task, p in asked("calibration", 4200, 7) if task == COMPOSITE]
    assert sum(table.guess(p.prompt).task == COMPOSITE for p in chained) >= 0.9 * len(chained)


def test_a_table_knows_what_it_does_not_know():
    """Everyday questions are like none of its tasks; its own problems are, even most of those that are worded anew."""
    table = Table(route_table([], {}, n=6000, seed=5))

    for question in (
        "What is the capital of France?",
        "Write a poem about the sea.",
        "Who was the first president of the United States?",
        "Give me a recipe for pancakes.",
        "Hello!",
    ):
        assert table.guess(question).strange, question
    own = [problem for _, problem in asked("test", 2100, 3)]
    assert sum(bool(table.guess(p.prompt).strange) for p in own) <= 0.02 * len(own)
    anew = problems(FAMILIES, "test", 1000, 1, unseen_wordings=True)
    assert sum(bool(table.guess(p.prompt).strange) for p in anew) <= 0.15 * len(anew)
    assert not any(table.guess(p.prompt).strange for p in handovers(FAMILIES, "test", 500, 1))


def test_thresholds_carry_their_quality():
    """The artefact says per worker how well its confidence separates, and on how many answers."""
    answers = [(True, 0.9), *[(True, 0.8)] * 49, *[(False, 0.2)] * 3, (False, None)]
    seen = [Observation("w", "f", good, sure) for good, sure in answers]

    data = thresholds(seen, {"seed": 1}).data

    assert data["workers"]["w"] == 0.8
    assert data["quality"]["w"] == {"n": 53, "accepted": 50, "precision": 1.0, "best_balanced_accuracy": 1.0}
    assert data["tasks"] == {}


def test_a_kind_of_task_with_enough_problems_has_its_own_threshold():
    """Where a worker is right it is accepted from lower on, where it is never right not at all; sixty problems are needed."""
    home = [Observation("w", "home", True, 0.3)] * 60
    away = [Observation("w", "away", False, 0.95)] * 60
    rare = [Observation("w", "rare", True, 0.1)] * 59

    data = thresholds([*home, *away, *rare], {}).data

    assert data["tasks"] == {"home": {"w": 0.3}, "away": {"w": 1.0}}
    assert data["workers"] == {"w": 1.0}


def test_a_precision_seen_on_a_handful_of_answers_is_not_trusted():
    """Of .9 one needs 35 right of 35: the lower end of the interval counts, not the share."""
    assert thresholds([Observation("w", "f", True, 0.9)] * 34, {}).data["workers"] == {"w": 1.0}
    assert thresholds([Observation("w", "f", True, 0.9)] * 35, {}).data["workers"] == {"w": 0.9}
