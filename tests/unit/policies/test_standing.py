"""Nobody is asked whose reply could not change the answer: learned so, and served so."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto import artifacts, sparring  # noqa: E402
from stretto.evaluation.recorded import RecordedPool  # noqa: E402
from stretto.evaluation.recorded import question as recorded  # noqa: E402
from stretto.evaluation.tables import Item, Said, Table  # noqa: E402
from stretto.learning.evidence.assurance import moved  # noqa: E402
from stretto.learning.evidence.lattice import walk  # noqa: E402
from stretto.learning.evidence.training import artefact, learn, matrix, values  # noqa: E402
from stretto.policies.evidence.asking import Asking  # noqa: E402
from stretto.policies.evidence.beliefs import Beliefs, Linear, Posterior  # noqa: E402
from stretto.policies.evidence.standing import Moves, Scene, barred  # noqa: E402
from stretto.policies.sequential import EVIDENCE_SCHEMA, Evidence, Sequential  # noqa: E402
from stretto.sparring.problems import problems  # noqa: E402
from stretto.steps import Ask, Note, Step  # noqa: E402
from stretto.testing import by_hand, said  # noqa: E402
from stretto.types import Answer, TokenLogprob  # noqa: E402
from tests.recorded_tables import made  # noqa: E402


def by_score() -> Posterior:
    """Right with the log-odds by which an answer's supporters outweigh the others (the second feature)."""
    weights = np.zeros(23)
    weights[1] = 1.0
    return Posterior(Linear(weights, np.zeros(23), np.ones(23)))


def scene(odds: list[float], classes: list[int], asked: list[int], moves: float = 0.0) -> Scene:
    there = np.array([[k in asked for k in range(len(odds))]])
    by = np.full(len(odds), moves)
    return Scene.after(
        by_score(), Moves(by, by), np.array([classes]), np.array([odds]), there, ~there, np.zeros((1, 4))
    )


def test_an_answer_is_settled_when_all_others_together_cannot_outweigh_it() -> None:
    """One strong voice against three weak ones is settled; against three of its kind it is not, nor before anybody spoke."""
    assert scene([5.0, -3.0, -3.0, -3.0], [0, -1, -1, -1], [0]).settled()[0]
    assert not scene([2.0, 1.5, 1.5, 1.5], [0, -1, -1, -1], [0]).settled()[0]
    assert not scene([5.0, -3.0, -3.0, -3.0], [-1] * 4, []).settled()[0]
    assert not scene([5.0, -3.0, -3.0, -3.0], [-1] * 4, [0]).settled()[0]  # it gave no answer


def test_replies_may_be_surer_than_their_workers_usually_are() -> None:
    """What replies have been seen to move is reckoned with: the same voices are not settled where replies tell much."""
    odds, classes = [5.0, -3.0, -3.0, -3.0], [0, -1, -1, -1]
    assert scene(odds, classes, [0], moves=0.5).settled()[0]
    assert not scene(odds, classes, [0], moves=5.0).settled()[0]


def test_who_would_stand_against_all_is_known_before_it_speaks() -> None:
    """The likeliest worker, where its word outweighs all others together; not where they would outvote it."""
    everybody = np.ones((1, 4), dtype=bool)
    assert scene([5.0, -3.0, -3.0, -3.0], [-1] * 4, []).foremost(everybody)[0] == 0
    assert scene([2.0, 1.5, 1.5, 1.5], [-1] * 4, []).foremost(everybody)[0] == -1
    assert scene([5.0, -3.0, -3.0, -3.0], [-1, 0, -1, -1], [1]).foremost(everybody)[0] == 0


def test_before_one_whose_word_stands_only_who_saves_money_is_asked() -> None:
    """By hand: A (right .9) costs 10; B is right often enough for its price, C is not, D alone is worth more than A alone."""
    likely = np.array([[0.9, 0.3, 0.3, 0.89]])
    paid = np.array([[0.10, 0.02, 0.04, 0.08], [0.01, 0.002, 0.004, 0.0095]])
    found = barred(np.array([0]), likely, paid)
    assert found[0].tolist() == [[False, False, True, False], [False, False, True, True]]
    assert not barred(np.array([-1]), likely, paid).any()


def test_where_asking_is_dear_or_nobody_good_the_values_decide() -> None:
    """Whose price is large, or who is hardly better than a coin, does not keep others from being asked first."""
    likely = np.array([[0.9, 0.3], [0.55, 0.2]])
    paid = np.array([[0.2, 0.19]])
    assert not barred(np.array([0, 0]), likely, paid).any()
    assert not barred(np.array([-1, 0]), likely, paid / 10).any()
    assert barred(np.array([0, 0]), likely, paid / 10)[0].tolist() == [[False, True]]


def test_moves_are_what_nine_replies_in_ten_stay_within() -> None:
    """Per worker, up and down; nothing where nothing was heeded of a reply but its value."""
    before = np.zeros((100, 2))
    after = np.tile(np.linspace(-1.0, 3.0, 100)[:, None], (1, 2))
    there, same = np.ones((100, 2), dtype=bool), np.zeros((100, 2), dtype=int)
    found = moved(before, after, there, same)
    assert found is not None
    assert (found.up[0], found.down[0]) == (pytest.approx(2.6), pytest.approx(0.6))
    unmoved = moved(before, None, there, same)
    assert unmoved is not None
    assert unmoved.up.tolist() == [0.0, 0.0]


def test_where_nobody_ever_says_the_same_nothing_is_in_vain() -> None:
    """Free texts, each a class of its own: a better worker's reply may be the answer, whoever spoke before."""
    apart = np.tile([0, 1], (100, 1))
    assert moved(np.zeros((100, 2)), None, np.ones((100, 2), dtype=bool), apart) is None


def test_a_settled_answer_is_hardly_ever_changed() -> None:
    """On the made table: where an answer was settled, the answer of the whole pool is another one in at most 2 of 100."""
    table = made(480)
    learned = learn(matrix(table, table.workers), size=3, dimensions=12)
    standing = learned.train.standing
    assert standing is not None
    assert standing.found is not None
    (settled, _), rows = standing.found, np.arange(len(standing.fold))
    said_ = np.where(standing.there, standing.classes, -1)
    changed = []
    for mask in range(1, 7):
        asked = np.broadcast_to([bool(mask >> k & 1) for k in range(3)], said_.shape)
        for number, posterior in enumerate(standing.posteriors):
            at = rows[(standing.fold == number) & settled[mask]]
            if len(at):
                parts = said_[at], standing.logits[at]
                some = Beliefs.after(posterior, *parts, asked[at], standing.lengths[at])
                all_ = Beliefs.after(posterior, *parts, np.ones_like(asked[at]), standing.lengths[at])
                changed += (some.best != all_.best).tolist()
    assert len(changed) > 100
    assert np.mean(changed) <= 0.02


def dominated(n: int = 500) -> Table:
    """One worker is right 97 times in 100, two cheaper ones hardly ever."""
    rng = np.random.default_rng(3)
    items, rows = [], {w: {} for w in ("good", "poor", "worse")}  # type: ignore[var-annotated]
    for k in range(n):
        item = Item(f"i{k}", f"question {k % 50} of {k}", split="train" if k < 0.8 * n else "dev")
        items.append(item)
        for worker, chance, cost in (("good", 0.97, 0.01), ("poor", 0.05, 0.005), ("worse", 0.08, 0.003)):
            right = rng.random() < chance
            answer = "A" if right else "BCD"[rng.integers(0, 3)]
            rows[worker][item.id] = (Said(float(right), cost, answer=answer),)
    return Table("dominated", tuple(items), rows)


def test_a_dominated_pool_costs_what_its_best_worker_costs() -> None:
    """At every price at which that worker is worth its money: one call, its answer, its cost; learned and served."""
    table = dominated()
    learned = learn(matrix(table, table.workers), size=3, dimensions=8)
    good = learned.workers.index("good")
    counts = learned.train.costs[:, good].mean()
    at = [k for k, u in enumerate(learned.prices) if u <= 0.4]
    assert learned.crossed.cost[at].mean(1) == pytest.approx(counts)
    policy = Sequential(Evidence(artefact(learned, {})), certified=False)
    assert learned.dev is not None
    (expected,) = walk(values(learned, [learned.prices[0]]), learned.dev)
    pool = RecordedPool(table)
    for number, item in enumerate([i for i in table.items if i.split == "dev"][:40]):

        def answer(step: Step, id: str = item.id) -> Any:
            assert isinstance(step, Ask)
            one = table.said(id, step.worker)
            assert one is not None
            return said(one.answer or "", step.worker)

        request = replace(recorded(item, dial=1.0), pool=pool.cards())
        steps, _ = by_hand(policy.plan(request), answer)
        asks = [s.worker for s in steps if isinstance(s, Ask)]
        assert asks == ["good"]
        assert expected.calls[number] == 1
        last = [s.choice for s in steps if isinstance(s, Note)][-1]
        assert all(o.rejected for o in last.options if o.name.startswith("ask"))


def test_what_is_handed_on_is_what_would_be_reckoned_anew() -> None:
    """With the shipped evidence, 100 prompts, any replies: whom it is in vain to ask, bit for bit the same scene and the same
    workers, whether the chances after the last reply are handed on or all is reckoned from the replies again."""
    shipped = Path(sparring.__file__).parent / "artifacts" / "evidence.json"
    known = Evidence(artifacts.read(shipped, EVIDENCE_SCHEMA))
    rng, seen = random.Random(5), set[tuple[bool, int]]()
    for problem in problems(["sort-letters", "addition", "sort-words"], "test", 100, seed=5):
        order = rng.sample(range(len(known.workers)), len(known.workers))
        now = Asking(
            rng.randrange(21), known.logits(problem.prompt), order[1:], known.listener(problem.prompt)
        )
        for worker in order[1:-1]:
            picked = rng.choice(now.open)
            anew = replace(now)
            if now.heard:
                anew.replies = replace(known.weighed(now.heard, now.logits)[0], chance=None)
            one, other = known.scene(now), known.scene(anew)
            assert one is not None
            assert other is not None
            for name in ("classes", "odds", "asked", "left", "lengths", "chance"):
                assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
            vain = known.vain(now, picked)
            assert vain == known.vain(anew, picked)
            seen.add((bool(now.heard), len(vain)))
            text, sure = rng.choice(["", "4", "5", "abc"]), (TokenLogprob("x", -2 * rng.random() ** 3),)
            message = said(text).message
            now.take(worker, Answer(message, logprobs=sure if rng.random() < 0.7 else ()), rng.randrange(40))
            now.replies, now.believed = known.weighed(now.heard, now.logits)
    assert len(seen) > 6  # before and after a reply; nobody, some and all in vain
