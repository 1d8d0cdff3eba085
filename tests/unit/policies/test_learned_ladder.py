"""What route and cascade do with a table: prompts that it does not know, and ladders made for a kind of task."""

from dataclasses import replace

from stretto.artifacts import Artifact
from stretto.policies.cascade import THRESHOLDS_SCHEMA, Cascade, Rung
from stretto.policies.route import TABLE_SCHEMA, Route, Table, order_words
from stretto.steps import Note
from stretto.testing import by_hand, question, said
from stretto.types import Price

PRICES = {
    "small": Price.per_million(1, 1),
    "speller": Price.per_million(3, 3),
    "adder": Price.per_million(3, 3),
    "large": Price.per_million(10, 10),
}
WORKERS = tuple(PRICES)


def table() -> Table:
    def task(strangers: int, **right: int) -> dict[str, object]:
        return {"prior": 0.5, "strangers": strangers, "workers": {w: [n, 100] for w, n in right.items()}}

    data = {
        "tasks": {
            "spell": task(1, small=40, speller=95, adder=0, large=60),
            "add": task(0, small=30, speller=0, adder=95, large=50),
        },
        "words": {"spell": {"spell": -1.0, "add": -5.0}, "0": {"spell": -5.0, "add": -1.0}},
        "unseen": {"spell": -6.0, "add": -6.0},
    }
    return Table(Artifact(TABLE_SCHEMA, {"from": "this test"}, data))


def cascade() -> Cascade:
    data = {
        "workers": dict.fromkeys(WORKERS, 0.9),
        "tasks": {"spell": {"small": 0.8, "adder": 1.0}, "add": {"small": 1.0}},
    }
    thresholds = Artifact(THRESHOLDS_SCHEMA, {}, data)
    rungs = tuple(Rung.of_worker(worker, "confidence") for worker in WORKERS)
    return Cascade(rungs, thresholds=thresholds, table=table(), adapts=True)


def test_payloads_in_lists_and_what_was_given_before_are_not_words_of_the_order():
    """Only the last line says what to do, and a list in it is what to do it to."""
    assert order_words("Given: oak, elm\nSort the words blick, dor, spang.") == ["sort", "the", "words"]


def test_a_prompt_with_more_unknown_words_than_its_task_ever_has_is_none_of_it():
    """One strange word is a payload of `spell`; two are not, and `add` has none at all."""
    assert table().guess("spell blick").strange == ()
    assert table().guess("spell doubt correctly").strange == ("doubt", "correctly")
    assert table().guess("7 dwarves").strange == ("dwarves",)


def test_route_gives_what_it_does_not_know_to_the_broadest_worker_and_says_so():
    """Not to a specialist that happens to be ahead on the likeliest of the known tasks; unless a default is named."""
    request = question("What is the capital of France", *WORKERS, prices=PRICES)

    steps, last = by_hand(Route(table=table()).plan(request), lambda s: None)

    assert last.worker == "large"
    assert steps[0].choice.reason.startswith("like no task that the table knows (what, is, the, capital, of)")
    assert by_hand(Route(table=table(), default="small").plan(request), lambda s: None)[1].worker == "small"


def test_an_adapting_cascade_climbs_to_the_worker_that_is_best_at_the_task_and_no_further():
    """Nobody who is dearer, as dear, or never accepted is asked; the choice of the ladder is recorded."""
    spell = question("spell blick", *WORKERS, prices=PRICES)
    steps, last = by_hand(cascade().plan(spell), lambda s: said("kcilb", "small", logprob=-1.0))
    assert [s.worker for s in steps if not isinstance(s, Note)] == ["small"]
    assert steps[0].choice.picked == "small then speller"
    assert last.worker == "speller"

    add = question("7 7", *WORKERS, prices=PRICES)
    steps, last = by_hand(cascade().plan(add), lambda s: None)
    assert last.worker == "adder"
    assert all(isinstance(step, Note) for step in steps)


def test_an_adapting_cascade_accepts_by_the_threshold_of_the_task():
    """0.82 is enough for `spell`, where this worker needs 0.8, though it needs 0.9 elsewhere."""
    spell = question("spell blick", *WORKERS, prices=PRICES)

    _, last = by_hand(cascade().plan(spell), lambda s: said("kcilb", "small", logprob=-0.2))

    assert last.text == "kcilb"


def test_a_second_opinion_is_asked_where_it_is_right_more_often_than_an_unsure_best():
    """Right 60 % of the time, the large worker follows a speller that is right half the time where it is unsure; not of 70 %."""
    spell = question("spell blick", *WORKERS, prices=PRICES)
    for unsure, ladder in ((0.5, "small then speller then large"), (0.7, "small then speller")):
        plain = cascade()
        assert plain.thresholds is not None
        data = {**plain.thresholds.data, "unsure": {"spell": {"speller": unsure}}}
        policy = replace(plain, thresholds=Artifact(THRESHOLDS_SCHEMA, {}, data))
        steps, last = by_hand(policy.plan(spell), lambda s: said("x", s.worker, logprob=-1.0))
        assert steps[0].choice.picked == ladder
        assert last.worker == ladder.rpartition(" ")[2]


def test_an_adapting_cascade_makes_do_with_whom_the_request_allows():
    """Without the best worker the next best is the last rung; of nobody that the table knows, the rungs as they are."""
    request = question("spell blick", "small", "adder", "large", prices=PRICES)
    steps, last = by_hand(cascade().plan(request), lambda s: said("x", "small", logprob=-1.0))
    assert steps[0].choice.picked == "small then large"
    assert last.worker == "large"

    rungs = (Rung.of_worker("stranger", "confidence"),)
    stranger = Cascade(rungs, thresholds=cascade().thresholds, table=table(), adapts=True)
    _, last = by_hand(stranger.plan(question("spell blick", "stranger")), lambda s: None)
    assert last.worker == "stranger"
