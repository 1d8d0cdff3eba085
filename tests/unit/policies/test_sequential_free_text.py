"""Sequential on free text: a comparer is asked within the plan, and moves the stop as far as its error lets it."""

from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto import artifacts  # noqa: E402
from stretto.artifacts import Artifact  # noqa: E402
from stretto.catalog import Catalog, Learned  # noqa: E402
from stretto.config import parse  # noqa: E402
from stretto.errors import ConfigError  # noqa: E402
from stretto.learning.evidence.training import artefact, learn, matrix  # noqa: E402
from stretto.policies.evidence.equivalence import Comparer  # noqa: E402
from stretto.policies.sequential import EVIDENCE_SCHEMA, Evidence, Sequential  # noqa: E402
from stretto.steps import Ask, Choice, Fork, Note, Quote, Step  # noqa: E402
from stretto.testing import by_hand, said  # noqa: E402
from stretto.testing import question as asked  # noqa: E402
from stretto.types import Card, Failure, Price, Reply  # noqa: E402
from tests.recorded_tables import made  # noqa: E402

TABLE = made(900)
_MADE = artefact(learn(matrix(TABLE, TABLE.workers), size=3, dimensions=12), {"from": "a made table"})
LEARNED = Artifact(_MADE.schema, {}, {k: v for k, v in _MADE.data.items() if k != "certified"})
GOOD, COIN = 0.97, 0.5
WORKERS = ("cheap", "middle", "dear")
ESSAY = "It is so because of the tides, and of the moon that makes them. " * 12
OTHER = "It is so because of the wind, and of the sun that makes it blow. " * 12


def policy(
    rate: float, by: Any = "judge", worker: str = "referee", rounds: int = 1, **given: str
) -> Sequential:
    comparer = Comparer(by, worker, rate, rate, collision=0.1, threshold=0.9)
    data = dict(LEARNED.data) | {"comparing": comparer.data}
    return Sequential(Evidence(Artifact(EVIDENCE_SCHEMA, {}, data), **given), rounds=rounds)


def judged(ask: Ask) -> Reply:
    """Two candidates in the question: the same if their texts are."""
    assert ask.messages is not None
    ones, others = ask.messages[0].text.split('name="2"')
    return said("yes" if ("tides" in ones) == ("tides" in others) else "no", ask.worker)


def played(
    one: Sequential, answers: dict[str, str], extra: tuple[str, ...] = ("referee",), **fields: Any
) -> Any:
    def answer(step: Step) -> Any:
        asks = step.plans if isinstance(step, Fork) else [step]
        (ask,) = asks
        assert isinstance(ask, Ask)
        if ask.worker == "referee":
            return fields["refused"] if "refused" in fields else judged(ask)
        return said(answers[ask.worker], ask.worker)

    request = asked("add the numbers total 8 green", *answers, *extra, dial=fields.get("dial", 0.7))
    return by_hand(one.plan(request), answer)


def stop(steps: list[Step]) -> Choice:
    return [s.choice for s in steps if isinstance(s, Note)][-1]


def sure(steps: list[Step]) -> float:
    return stop(steps).options[0].estimates["sure"]


def asks(steps: list[Step], worker: str = "") -> list[Ask]:
    return [s for s in steps if isinstance(s, Ask) and (not worker or s.worker == worker)]


def test_a_judge_makes_free_texts_count_as_agreement() -> None:
    """Three essays that a good judge calls the same make it surer than three that it tells apart."""
    steps, last = played(policy(GOOD), dict.fromkeys(WORKERS, ESSAY), dial=0.6)
    apart, _ = played(policy(GOOD), {"cheap": OTHER, "middle": ESSAY, "dear": OTHER + "Or not."}, dial=0.6)
    assert last.text == ESSAY
    assert asks(steps, "referee")
    assert sure(steps) > sure(apart) + 0.05


def test_with_a_perfect_judge_it_is_as_with_equal_values() -> None:
    """The better the judge, the nearer to what letters would have brought."""
    letters, _ = played(policy(GOOD), dict.fromkeys(WORKERS, "A"))
    essays, _ = played(policy(1 - 1e-9), dict.fromkeys(WORKERS, ESSAY))
    assert not asks(letters, "referee")
    assert [a.worker for a in asks(essays) if a.worker != "referee"] == [a.worker for a in asks(letters)]
    # a reply's length is no letter's, so that much may differ
    assert sure(essays) == pytest.approx(sure(letters), abs=0.05)


def test_a_coin_is_not_asked_and_leaves_everybody_with_his_own_chance() -> None:
    """Known to be a coin, it costs nothing; and nobody loses by a disagreement that nobody has seen."""
    steps, _ = played(policy(COIN), dict.fromkeys(WORKERS, ESSAY))
    assert not asks(steps, "referee")
    heard = {a.worker for a in asks(steps)}
    alone = {
        o.name: o.estimates["success"]
        for note in steps
        if isinstance(note, Note)
        for o in note.choice.options
        if "success" in o.estimates
    }
    assert len(heard) > 1
    assert sure(steps) == pytest.approx(max(alone[w] for w in heard), abs=0.12)


def test_every_verdict_is_in_the_record() -> None:
    """The last choice names each pair that was compared, and what was said of it."""
    steps, _ = played(policy(GOOD), dict.fromkeys(WORKERS, ESSAY))
    told = [o for o in stop(steps).options if o.rejected == "free texts compared"]
    assert len(told) == len(asks(steps, "referee"))
    assert all(o.estimates == {"same": 1.0} for o in told)


def test_short_answers_need_no_comparer() -> None:
    """Where values tell, it is not asked, and the beliefs are the exact ones."""
    with_, _ = played(policy(GOOD), dict.fromkeys(WORKERS, "A"))
    without, _ = played(Sequential(Evidence(LEARNED)), dict.fromkeys(WORKERS, "A"))
    assert not asks(with_, "referee")
    assert sure(with_) == sure(without)


def test_a_limit_that_refuses_the_comparer_ends_the_asking() -> None:
    """What was bought until then goes out, and says why."""
    refused = said("", "referee", error=Failure("limit", "no money left"))
    steps, last = played(policy(GOOD), dict.fromkeys(WORKERS, ESSAY), refused=refused)
    if asks(steps, "referee"):
        assert len(asks(steps, "referee")) == 1
        assert "a limit ended the asking: no money left" in last.why
    assert last.text == ESSAY


def test_two_rounds_compare_within_the_batch() -> None:
    """What came side by side is compared before the one decision."""
    steps: list[Step] = []
    plan, sent = policy(GOOD, rounds=2).plan(asked("add the numbers", *WORKERS, "referee")), None
    while True:
        try:
            step = plan.send(sent)
        except StopIteration:
            break
        steps.append(step)
        if isinstance(step, Fork):
            sent = tuple(_answer(branch) for branch in step.plans)
        elif isinstance(step, Ask):
            sent = judged(step) if step.worker == "referee" else said(ESSAY, step.worker)
        else:
            sent = None
    batches = [len(s.plans) for s in steps if isinstance(s, Fork)]
    told = sum(batches)
    assert len(asks(steps, "referee")) == told * (told - 1) // 2


def test_the_comparer_can_be_left_out() -> None:
    """`same = "exact"`: free texts are classes of their own, as without a learned comparer."""
    steps, _ = played(policy(GOOD, same="exact"), dict.fromkeys(WORKERS, ESSAY))
    plain, _ = played(Sequential(Evidence(LEARNED)), dict.fromkeys(WORKERS, ESSAY))
    assert not asks(steps, "referee")
    assert sure(steps) == sure(plain)
    assert repr(policy(GOOD, same="exact").evidence) != repr(policy(GOOD).evidence)


def test_the_outlook_has_the_comparisons() -> None:
    """They may be needed or not, so the most grows and the least does not."""
    request = asked("add the numbers", *WORKERS, "referee")
    quote = Quote(expected=1000, worst=5000, input_tokens=10, max_tokens=100)
    plain = policy(GOOD, same="exact").outlook(request, lambda ask: quote)
    full = policy(GOOD).outlook(request, lambda ask: quote)
    assert full.calls.least == plain.calls.least
    assert full.calls.most == plain.calls.most + 9  # three pairs, three attempts each
    assert full.usd.most > plain.usd.most


def _answer(branch: Any) -> Any:
    worker = next(branch).worker
    try:
        branch.send(said(ESSAY, worker))
    except StopIteration as stopped:
        return stopped.value
    raise AssertionError("a branch is one ask")


def test_the_configuration_says_who_compares(tmp_path: Any) -> None:
    """By default as learned; a renamed comparer by its id here; one that nobody has learned, or nobody knows, is refused."""
    for name, data in (("taught", policy(GOOD).evidence.comparer), ("plain", None)):
        more = {} if data is None else {"comparing": data.data}
        artifacts.write(Artifact(EVIDENCE_SCHEMA, {}, dict(LEARNED.data) | more), tmp_path / f"{name}.json")

    def built(name: str, line: str = "", extra: str = "referee") -> Any:
        text = f'[policy.p]\ntype = "sequential"\nartifact = "{name}.json"\n{line}\n'
        settings = parse(text, file=str(tmp_path / "stretto.toml"))
        cards = tuple(Card(w, Price.per_million(1, 1)) for w in (*WORKERS, extra))
        return Catalog(cards, settings, Learned()).resolve("p").evidence.comparer

    assert built("taught").worker == "referee"
    assert built("taught", 'same = "judge"\ncomparer = "umpire"', "umpire").worker == "umpire"
    assert built("taught", 'same = "exact"') is None
    assert built("plain") is None
    with pytest.raises(ConfigError, match=r"same: .embedding. needs an error that was learned"):
        built("taught", 'same = "embedding"')
    with pytest.raises(ConfigError, match=r"comparer: there is no worker .referee."):
        built("taught", extra="other")


def test_free_texts_that_nobody_compares_are_neither_for_nor_against() -> None:
    """What was learned from letters says of three essays what the best of their workers' own chances is, not that all disagree.

    What was learned from essays, each a class of its own, goes by that.
    """
    letters = Sequential(Evidence(LEARNED))
    essays = Sequential(Evidence(Artifact(EVIDENCE_SCHEMA, {}, dict(LEARNED.data) | {"free": True})))
    differ, _ = played(letters, {"cheap": "A", "middle": "B", "dear": "C"})
    alone, _ = played(letters, {"cheap": ESSAY, "middle": OTHER, "dear": OTHER + "Or not."})
    apart, _ = played(essays, {"cheap": ESSAY, "middle": OTHER, "dear": OTHER + "Or not."})
    assert sure(alone) > sure(differ)
    assert sure(apart) == pytest.approx(sure(differ), abs=0.02)
