"""`route` by an estimator that reads the prompt, and a worker that joins with few labels: what is learned is what is served."""

from dataclasses import replace

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto import artifacts  # noqa: E402
from stretto.artifacts import Artifact  # noqa: E402
from stretto.errors import ConfigError  # noqa: E402
from stretto.evaluation.tables import Item, Said, Table  # noqa: E402
from stretto.learning.evidence import routing  # noqa: E402
from stretto.learning.evidence.newcomers import join  # noqa: E402
from stretto.learning.evidence.prompts import Prompts  # noqa: E402
from stretto.learning.evidence.success import folds, log_odds  # noqa: E402
from stretto.learning.route_table import study  # noqa: E402
from stretto.policies import route  # noqa: E402
from stretto.policies.route import Route  # noqa: E402
from stretto.testing import by_hand, question  # noqa: E402
from stretto.types import Card, Price  # noqa: E402

FAMILIES = routing.FAMILIES


def world(count: int = 500, seed: int = 0) -> Table:
    """Sums, which `a` is good at, and riddles, which `b` is good at; `c` is as good at both. All of one task: only words tell."""
    rng = np.random.default_rng(seed)
    things = ["apples", "pears", "stones", "coins", "birds"]
    items, said = [], {"a": {}, "b": {}, "c": {}}
    for n in range(count):
        thing, x, y = things[rng.integers(5)], rng.integers(10, 99), rng.integers(10, 99)
        riddle = n % 2
        text = (
            f"Solve this riddle about {thing} and a dark room: who am I"
            if riddle
            else f"Add up the {thing}: {x} + {y} ="
        )
        items.append(Item(f"i{n}", text))
        for worker, chances in {"a": (0.9, 0.2), "b": (0.3, 0.85), "c": (0.6, 0.6)}.items():
            said[worker][f"i{n}"] = [Said(float(rng.random() < chances[riddle]), cost=0.001)]
    return Table("made", items, said)


def asked(artifact: Artifact, prompt: str, *workers: str) -> tuple[str, route.Choice]:
    """Whom `route` asks at dial 1, and the recorded choice."""
    cards = tuple(Card(w, Price.per_million(1, 1)) for w in workers)
    request = replace(question(prompt, *workers), pool=cards, dial=1.0)
    steps, last = by_hand(Route(table=route.Table(artifact)).plan(request), lambda s: None)
    return last.worker, steps[0].choice


@pytest.mark.parametrize("by", FAMILIES)
def test_every_family_serves_what_it_learned(by: routing.Family, tmp_path) -> None:
    """Written and read again, each tells sums from riddles where the table of tasks cannot, asks who is good at that, records
    success and deviation, and its chances are near the true ones."""
    made, found = study(world(), [by])
    artifacts.write(made, tmp_path / "table.json")
    made = artifacts.read(tmp_path / "table.json", route.TABLE_SCHEMA)
    assert (found.by, found.rows[0].by) == (by, "table")
    assert found.rows[1].quality.nats < found.rows[0].quality.nats - 0.05
    assert found.rows[1].quality.auc > found.rows[0].quality.auc + 0.1
    assert found.rows[1].lead.low > 0
    for prompt, worker, chance in (
        ("Add up the coins: 12 + 30 =", "a", 0.9),
        ("Solve this riddle about birds and a dark room: who am I", "b", 0.85),
    ):
        picked, choice = asked(made, prompt, "a", "b", "c")
        assert picked == worker
        numbers = next(o.estimates for o in choice.options if o.name == worker)
        assert numbers["success"] == pytest.approx(chance, abs=0.1)
        assert 0 < numbers["deviation"] < 0.15
        assert f"({by})" in choice.reason


def test_what_is_told_is_what_the_estimator_foretells() -> None:
    """The form in the artefact, with low rank, sketch and calibration, tells the chances of a fit on all items."""
    table = world()
    made, _ = study(table, ["logistic"])
    success = route.Table(made).success
    right = np.array([[table.said(i.id, w).score for w in success.workers] for i in table.items])
    told = np.array([[p for p, _ in success.chances(i.prompt).values()] for i in table.items])
    doubts = np.array([[d for _, d in success.chances(i.prompt).values()] for i in table.items])
    assert np.abs(told.mean(0) - right.mean(0)).max() < 0.02
    riddle = np.arange(len(right)) % 2 == 1
    assert np.abs(told[riddle].mean(0) - right[riddle].mean(0)).max() < 0.04
    truth = np.where(riddle[:, None], [0.2, 0.85, 0.6], [0.9, 0.3, 0.6])
    error = np.sqrt(((told - truth) ** 2).mean())
    assert 0.5 < error / np.sqrt((doubts**2).mean()) < 2


def test_differences_by_chance_are_calibrated_away() -> None:
    """Chances whose differences between workers are noise keep what they share; those that are right stay as they are."""
    rng = np.random.default_rng(0)
    z = rng.normal(0, 1, (4000, 1)) + np.array([0.5, 0.0, -0.5])
    scores = (rng.random(z.shape) < 1 / (1 + np.exp(-z))).astype(float)
    noisy = z + rng.normal(0, 0.7, z.shape)
    after = routing.calibrate(1 / (1 + np.exp(-noisy)), scores).after(noisy)
    assert np.abs(after - z).mean() < 0.6 * np.abs(noisy - z).mean()
    same = routing.calibrate(1 / (1 + np.exp(-z)), scores)
    assert np.abs(same.after(z) - z).mean() < 0.1


def test_quality_counts_only_who_was_there() -> None:
    """Who has no outcome for an item is not asked it there; a cost that is not known counts as the usual one."""
    scores = np.array([[1.0, np.nan], [0.0, 1.0], [1.0, 0.0], [np.nan, 1.0]])
    costs = np.array([[2.0, np.nan], [2.0, np.nan], [np.nan, 4.0], [np.nan, 4.0]])
    found = routing.quality(np.tile([0.6, 0.8], (4, 1)), scores, costs)
    assert found.scores[0].tolist() == [1.0, 1.0, 0.0, 1.0]
    assert found.costs[0].tolist() == [2.0, 4.0, 4.0, 4.0]
    assert routing.quality(scores * 0.8 + 0.1, scores, costs).auc == 1.0


def test_auto_is_the_one_that_foretells_best_of_what_was_compared() -> None:
    """All families are in the table of quality, and the one with the least log-loss serves; it is not worse than the table."""
    made, found = study(world(), FAMILIES)
    assert [row.by for row in found.rows] == ["table", "logistic", "factors", "irt", "nearest", "clusters"]
    best = min(found.rows[1:], key=lambda row: row.quality.nats)
    assert found.by == best.by == made.data["success"]["by"]
    assert max(found.score, 0.6) < best.quality.scores[0].mean()


def test_too_little_is_told_and_who_is_known_little_is_left_out() -> None:
    """Fewer than fifty outcomes of two workers: what to do. A third worker with few is named, and is in the table of tasks."""
    table = world(200)
    with pytest.raises(ConfigError, match=r"50 outcomes of at least two workers.*a \(40\).*--by table"):
        study(world(40), ["nearest"])
    said = {w: {i.id: [table.said(i.id, w)] for i in table.items[: 200 if w != "c" else 10]} for w in "abc"}
    made, found = study(Table("made", table.items, said), ["nearest"])
    assert found.few == {"c": 10}
    assert made.data["success"]["workers"] == ["a", "b"]
    assert "c" in made.data["tasks"]["all"]["workers"]


@pytest.mark.parametrize("by", ["logistic", "table"])
def test_a_newcomer_joins_by_its_profile(by: str) -> None:
    """Without labels it is an average worker and is not asked; with sixty that say it is like `b`, but better, it is asked where
    `b` was; doubt shrinks with the labels; more of them take the place of the old ones."""
    table = world()
    if by == "table":
        kinds = [replace(i, task="riddles" if n % 2 else "sums") for n, i in enumerate(table.items)]
        table = Table("made", kinds, {w: {i.id: [table.said(i.id, w)] for i in kinds} for w in "abc"})
        made = route_table(table)
    else:
        made, _ = study(table, ["logistic"])
    prompts = [i.prompt for i in table.items]
    rng = np.random.default_rng(3)
    true = [float(rng.random() < (0.99 if n % 2 else 0.35)) for n in range(len(prompts))]
    none = join(made, "new", prompts, [None] * len(prompts))
    few = join(made, "new", prompts, [s if n < 60 else None for n, s in enumerate(true)])
    more = join(few.artifact, "new", prompts, [s if n < 200 else None for n, s in enumerate(true)])
    assert (none.profile.labels, few.profile.labels, more.profile.labels) == (0, 60, 200)
    assert none.asked.mean() == 0
    assert few.asked[1::2].mean() > 0.9
    assert few.asked[::2].mean() < 0.1
    assert none.doubt.mean() > few.doubt.mean() > more.doubt.mean() > 0
    assert more.known == ("a", "b", "c")
    assert sum("new" in task["workers"] for task in more.artifact.data["tasks"].values()) == len(
        made.data["tasks"]
    )
    riddle = "Solve this riddle about coins and a dark room: who am I"
    assert asked(none.artifact, riddle, "a", "b", "c", "new")[0] == "b"
    picked, choice = asked(more.artifact, riddle, "a", "b", "c", "new")
    assert picked == "new"
    if by == "logistic":
        assert choice.reason.endswith("; a newcomer")
        numbers = choice.options[-1].estimates
        assert numbers["worth"] == pytest.approx(numbers["success"] - 0.5 * numbers["deviation"], abs=2e-4)


def route_table(table: Table) -> Artifact:
    """The table of tasks alone."""
    from stretto.learning.route_table import of_table

    return of_table(table)


def test_who_was_learned_with_the_others_is_no_newcomer() -> None:
    """Its outcomes are worth more there, and the message says how."""
    with pytest.raises(ConfigError, match=r"a was learned with the others; .*stretto train route"):
        join(route_table(world(80)), "a", [], [])


def test_cross_fitted_chances_never_saw_their_item() -> None:
    """Outcomes by lot cannot be foretold: nobody's chances are better than the mean's."""
    rng = np.random.default_rng(1)
    table = world(300)
    prompts = Prompts.learned(table.items)
    scores = (rng.random((300, 3)) < 0.5).astype(float)
    for one in routing.candidates(FAMILIES, prompts, prompts.matrix(table.items), scores):
        assert routing.quality(one.chance, scores, np.zeros(scores.shape)).nats > 0.69, one.by
        assert np.abs(log_odds(one.chance)).mean() < 0.4
    assert sorted(np.bincount(folds(300))) == [60] * 5
