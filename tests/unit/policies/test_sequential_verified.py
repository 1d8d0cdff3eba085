"""Sequential where replies cannot be compared: verdicts are bought like replies, and believed as far as their error lets them."""

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
from stretto.policies.evidence.verification import Verifier  # noqa: E402
from stretto.policies.sequential import EVIDENCE_SCHEMA, Evidence, Sequential  # noqa: E402
from stretto.steps import Ask, Choice, Note, Quote, Step  # noqa: E402
from stretto.testing import by_hand, said  # noqa: E402
from stretto.testing import question as asked  # noqa: E402
from stretto.types import Card, Failure, Price  # noqa: E402
from tests.recorded_tables import made  # noqa: E402

TABLE = made(480)
_MADE = artefact(learn(matrix(TABLE, TABLE.workers), size=3, dimensions=12), {"from": "a made table"})
PLAIN = {k: v for k, v in _MADE.data.items() if k != "certified"} | {"free": True}
PRICES = len(PLAIN["prices"])
WORKERS = ("cheap", "middle", "dear")
GOOD, COIN = (0.95, 0.95), (0.5, 0.5)
ESSAY = "It is so because of the tides, and of the moon that makes them. " * 12
PROMPT = "add the numbers total 7 red"


def taught(rates: tuple[float, float], **fields: Any) -> Artifact:
    known = {"paid": 0.01, "spread": 0.5, "worker": "referee"} | fields.pop("known", {})
    many = {"serves": (True,) * PRICES, "calls": (1.5,) * PRICES, "checks": (1.2,) * PRICES}
    verifier = Verifier(rates=rates, **known | many | fields.pop("many", {}))
    return Artifact(EVIDENCE_SCHEMA, {}, PLAIN | {"verifying": verifier.data})


def policy(rates: tuple[float, float] = GOOD, **fields: Any) -> Sequential:
    own = {name: fields.pop(name) for name in ("known", "many") if name in fields}
    return Sequential(Evidence(taught(rates, **own)), **fields)


def played(one: Sequential, verdicts: Any = "yes", **fields: Any) -> Any:
    """The steps, and the answer. `verdicts`: one text, or one for each author's reply, or a failure."""
    replies = {w: f"{w}: {ESSAY}" for w in WORKERS} | fields.pop("replies", {})
    pool = fields.pop("pool", (*WORKERS, "referee"))

    def answer(step: Step) -> Any:
        assert isinstance(step, Ask)
        if step.worker == "referee":
            if isinstance(verdicts, Failure):
                return said("", "referee", error=verdicts)
            text = step.messages[0].text if step.messages else ""
            author = next(w for w in WORKERS if f"{w}: " in text)
            return said(verdicts if isinstance(verdicts, str) else verdicts[author], "referee")
        return said(replies[step.worker], step.worker)

    return by_hand(one.plan(asked(PROMPT, *pool, dial=fields.pop("dial", 1.0), **fields)), answer)


def asks(steps: list[Step]) -> list[str]:
    return [s.worker for s in steps if isinstance(s, Ask)]


def choices(steps: list[Step]) -> list[Choice]:
    return [s.choice for s in steps if isinstance(s, Note)]


def sure(steps: list[Step]) -> float:
    return choices(steps)[-1].options[0].estimates["sure"]


def test_a_reply_that_is_accepted_goes_out() -> None:
    """The verifier is shown the reply in its own role, and after a yes nobody else is asked."""
    steps, last = played(policy(), dial=0.0)
    assert len(asks(steps)) == 2
    assert asks(steps)[1] == "referee"
    check = [s for s in steps if isinstance(s, Ask)][1]
    assert check.role == "verifier"
    assert ESSAY.strip()[:50] in check.messages[0].text
    assert last.text.startswith(asks(steps)[0])
    assert "1 verified" in last.why


def test_a_reply_that_is_rejected_is_bettered() -> None:
    """After a no another worker is asked, and the answer is the one that was accepted."""
    first = asks(played(policy())[0])[0]
    verdicts = dict.fromkeys(WORKERS, "yes") | {first: "no"}
    steps, last = played(policy(), verdicts)
    assert len([w for w in asks(steps) if w != "referee"]) > 1
    assert not last.text.startswith(first)
    assert sure(steps) > 0.9


def test_every_verdict_is_a_recorded_choice() -> None:
    """What it was expected to change stands beside it: how likely a yes is, and the chance of the reply after yes and no."""
    steps, _ = played(policy())
    bought = [c for c in choices(steps) if "verified by" in c.picked]
    assert len(bought) == asks(steps).count("referee") > 0
    told = bought[0].options[0].estimates
    assert told["else"] < told["sure"] < told["then"]
    assert told["accepted"] * told["then"] + (1 - told["accepted"]) * told["else"] == pytest.approx(
        told["sure"], abs=1e-3
    )
    assert all("worth" in o.estimates for c in choices(steps) for o in c.options)
    assert {o.name.split(":")[0] for o in bought[0].options} >= {"stop"}
    assert choices(steps)[-1].picked.startswith("stop: ")


def test_the_better_the_verifier_the_surer_the_answer() -> None:
    """A yes of one that is right 95 times in 100 says more than that of one that is right 70 times."""
    good, fair = (sure(played(policy(rates))[0]) for rates in (GOOD, (0.7, 0.7)))
    assert good > fair


def test_a_coin_is_not_asked_and_changes_nothing() -> None:
    """With rates that tell nothing it goes on exactly as without a verifier."""
    steps, last = played(policy(COIN))
    plain, other = by_hand(
        Sequential(Evidence(Artifact(EVIDENCE_SCHEMA, {}, PLAIN))).plan(asked(PROMPT, *WORKERS, dial=1.0)),
        lambda step: said(f"{step.worker}: {ESSAY}", step.worker),
    )
    assert asks(steps) == asks(plain)
    assert [c.options for c in choices(steps)] == [c.options for c in choices(plain)]
    assert last.text == other.text


def test_a_dear_verifier_is_not_asked() -> None:
    """One that costs as much as two calls of the best worker buys nothing at the cheap end of the dial."""
    assert "referee" in asks(played(policy(), dial=0.0)[0])
    assert "referee" not in asks(played(policy(known={"paid": 2.0}), dial=0.0)[0])


def test_replies_that_can_be_compared_need_no_verdict() -> None:
    """A letter has a value: from there on agreement counts, and the verifier is left alone."""
    steps, _ = played(policy(), replies=dict.fromkeys(WORKERS, "A"))
    assert "referee" not in asks(steps)
    assert len(asks(steps)) == len(set(asks(steps)))


@pytest.mark.parametrize(
    "fields",
    [{"rounds": 2}, {"many": {"serves": (False,) * PRICES}}],
    ids=["two rounds", "not shown to pay"],
)
def test_where_verdicts_do_not_serve_nobody_is_asked_for_them(fields: Any) -> None:
    """In two rounds there is no time for them; and at a price where they were not shown to pay they are not bought."""
    one = policy(**fields)
    request = asked(PROMPT, *WORKERS, "referee", dial=1.0)
    quotes: list[Ask] = []

    def quote(ask: Ask) -> Quote:
        quotes.append(ask)
        return Quote(expected=1000, worst=5000, input_tokens=10, max_tokens=100)

    one.outlook(request, quote)
    assert not [ask for ask in quotes if ask.worker == "referee"]
    if one.rounds == 1:
        assert "referee" not in asks(played(one)[0])


def test_the_outlook_has_the_verdicts() -> None:
    """They may be bought or not: the most grows by one for each reply, the expected by as many as it took, the least not."""
    request = asked(PROMPT, *WORKERS, "referee", dial=1.0)
    quote = Quote(expected=1000, worst=5000, input_tokens=10, max_tokens=100)
    without = policy(many={"serves": (False,) * PRICES}).outlook(request, lambda ask: quote)
    with_ = policy().outlook(request, lambda ask: quote)
    assert with_.calls.least == without.calls.least
    assert with_.calls.expected == pytest.approx(without.calls.expected + 1.2)
    assert with_.calls.most == without.calls.most + 9  # three replies, three attempts each
    assert with_.usd.most > without.usd.most


def test_a_task_whose_answers_can_be_compared_has_no_rates() -> None:
    """`None` for each known task: the verifier is not asked there."""
    steps, _ = played(policy(known={"tasks": (None, None)}))
    assert "referee" not in asks(steps)
    assert "referee" in asks(played(policy(known={"tasks": (GOOD, GOOD)}))[0])


def test_who_may_not_be_used_is_not_asked() -> None:
    """A verifier that the request excludes is not there."""
    assert "referee" not in asks(played(policy(), pool=WORKERS)[0])


def test_nobody_verifies_himself() -> None:
    """The verifier's own reply is never shown to it."""
    one = policy(known={"worker": "dear"})
    steps: list[Step] = []

    def answer(step: Step) -> Any:
        assert isinstance(step, Ask)
        return said("no" if step.role == "verifier" else f"{step.worker}: {ESSAY}", step.worker)

    steps, _ = by_hand(one.plan(asked(PROMPT, *WORKERS, dial=1.0)), answer)
    shown = [s for s in steps if isinstance(s, Ask) and s.role == "verifier"]
    assert shown
    assert not any("dear: " in s.messages[0].text for s in shown if s.messages)


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (Failure("limit", "no money left"), "a limit ended the asking: no money left"),
        (Failure("timeout", ""), "0 verified"),
    ],
)
def test_a_verdict_that_does_not_come_leaves_the_reply_as_it_was(failure: Failure, told: str) -> None:
    """A limit ends the asking; another failure is no verdict, and the same reply is not shown twice."""
    steps, last = played(policy(), failure)
    assert last.error is None
    assert told in last.why
    assert asks(steps).count("referee") <= (1 if failure.kind == "limit" else len(WORKERS))


def test_a_worker_that_fails_is_passed_over() -> None:
    """Its failure is no evidence, and another one is asked and verified."""
    first = asks(played(policy())[0])[0]

    def answer(step: Step) -> Any:
        assert isinstance(step, Ask)
        if step.worker == first:
            return said("", first, error=Failure("timeout", "late"))
        return said("yes" if step.worker == "referee" else f"{step.worker}: {ESSAY}", step.worker)

    steps, last = by_hand(policy().plan(asked(PROMPT, *WORKERS, "referee", dial=1.0)), answer)
    assert last.error is None
    assert asks(steps).count(first) == 1
    assert not last.text.startswith(first)


def test_the_certificate_with_verdicts_is_its_own() -> None:
    """From the middle of the dial upwards its own certificate says if it serves, and at most at which price."""
    none = {"u": None, "single": "dear", "cost": 1.0, "bound": 0.1, "reason": "nothing was certified"}
    safe = none | {"u": PLAIN["prices"][2]["u"], "cost": 0.4, "bound": 0.0}
    assert "referee" not in asks(played(policy(known={"certified": none}), dial=0.5)[0])
    assert "referee" in asks(played(policy(known={"certified": none}), dial=0.2)[0])
    certified = policy(known={"certified": safe}).evidence.verifier
    prices = [p["u"] for p in PLAIN["prices"]]
    assert certified is not None
    assert certified.price(10, prices, 0.5, safe=True) == 2
    assert certified.price(10, prices, 0.5, safe=False) == 10


def test_exploring_draws_the_first_worker_with_its_chance() -> None:
    """Another than the best guess begins now and then, and the record says with which chance."""
    seen = set()
    for seed in range(40):
        steps, _ = played(policy(explore=0.5), seed=seed)
        first = choices(steps)[0]
        assert first.options[0].estimates.keys() >= {"success", "worth", "probability"}
        assert 0 < first.probability <= 0.5 + 1e-9
        seen.add(first.picked)
    assert len(seen) > 1


def test_the_configuration_may_give_another_id(tmp_path: Any) -> None:
    """By default as learned; a renamed verifier by its id here; one that is not in the pool is refused."""
    artifacts.write(taught(GOOD), tmp_path / "taught.json")

    def built(line: str = "", extra: str = "referee") -> Any:
        text = f'[policy.p]\ntype = "sequential"\nartifact = "taught.json"\n{line}\n'
        settings = parse(text, file=str(tmp_path / "stretto.toml"))
        cards = tuple(Card(w, Price.per_million(1, 1)) for w in (*WORKERS, extra))
        return Catalog(cards, settings, Learned()).resolve("p")

    assert built().evidence.verifier.worker == "referee"
    assert built('verifier = "umpire"', "umpire").evidence.verifier.worker == "umpire"
    assert repr(built('verifier = "umpire"', "umpire").evidence) != repr(built().evidence)
    with pytest.raises(ConfigError, match=r"verifier: there is no worker .referee."):
        built(extra="other")


def test_an_artefact_holds_the_verifier_whole() -> None:
    """What was learned comes back as it was; rates that are none are refused; another id may be given."""
    made_ = Verifier("referee", GOOD, (GOOD, None), 0.7, 0.02, 0.001, (True,), (1.2,), (0.8,), {"u": None})
    assert Verifier.of(made_.data) == made_
    renamed = Verifier.of(made_.data, "umpire")
    assert renamed is not None
    assert renamed.worker == "umpire"
    assert Verifier.of(None) is None
    with pytest.raises(ValueError, match="no verifier"):
        Verifier.of(made_.data | {"rates": [1.0, 0.5]})
