"""What `stretto` does with a pool that nobody has measured, where its models are known elsewhere."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from stretto.catalog.usual import reputed, usual
from stretto.learning.evidence import training
from stretto.policies.priors import PRICES, passed_over, price_of, priors, second, worths
from stretto.policies.unlearned import Unlearned
from stretto.steps import Ask, Choice, Note, Quote, Step
from stretto.testing import by_hand, said
from stretto.types import PICO, Answer, Believed, Card, Failure, Message, Part, Price, Reply, Request

TEXT = frozenset({"text", "tools", "json"})


def card(
    id: str, usd: float, odds: float | None = None, error: float = 0.2, *, measured: bool = True
) -> Card:
    """A worker at a price in USD per million tokens, of some repute."""
    known = None if odds is None else Believed(odds, error, id if measured else "the family x", measured)
    return Card(id, Price.per_million(usd, usd), abilities=TEXT, repute=known)


POOL = (
    card("tiny", 0.1, -1.0),
    card("flash", 0.2, 0.6),
    card("weak", 1.0, 0.0),
    card("good", 2.0, 1.4),
    card("hype", 8.0, 0.9),
    card("best", 10.0, 1.9),
)
LADDER = Unlearned(tuple(c.id for c in POOL), "best")


def asked(text: str, dial: float = 0.5, pool: tuple[Card, ...] = POOL, **fields: Any) -> Request:
    """A request to this pool."""
    return Request(messages=(Message("user", text),), pool=pool, dial=dial, **fields)


def played(request: Request, says: Mapping[str, Any]) -> tuple[list[str], list[Choice], Answer | Ask]:
    """Whom the plan asked, what it chose, and what came of it."""

    def answer(step: Step) -> Reply:
        assert isinstance(step, Ask)
        given = says[step.worker]
        return (
            Reply(worker=step.worker, error=given) if isinstance(given, Failure) else said(given, step.worker)
        )

    steps, last = by_hand(LADDER.plan(request), answer)
    notes = [s.choice for s in steps if isinstance(s, Note)]
    return [s.worker for s in steps if isinstance(s, Ask)], notes, last


@pytest.mark.parametrize(("dial", "worker"), [(0.0, "flash"), (0.5, "good"), (1.0, "best")])
def test_the_dial_is_the_price_that_being_right_is_weighed_with(dial: float, worker: str) -> None:
    """Who begins is worth most: the chance that is believed, less the price in calls of the likeliest at the dial's rate."""
    _, notes, last = played(asked("Explain entropy.", dial), dict.fromkeys((c.id for c in POOL), "yes"))

    assert notes[0].picked == worker
    assert notes[0].by == "prior"
    told = {o.name: o for o in notes[0].options}
    assert told[worker].estimates["worth"] == max(o.estimates["worth"] for o in told.values())
    assert told["good"].estimates["prior"] == pytest.approx(0.802, abs=0.001)
    assert told["weak"].rejected == "dearer than flash and believed less often right"
    assert told["hype"].rejected == "dearer than good and believed less often right"
    assert "what others measured" in notes[0].reason
    assert isinstance(last, (Ask, Answer))


def test_the_dial_means_the_same_as_where_evidence_was_learned() -> None:
    """One ladder of prices from the best to the cheapest, whether an artefact is there or not."""
    assert PRICES == training.PRICES
    assert (price_of(1.0), price_of(0.5), price_of(0.0)) == (PRICES[0], PRICES[10], PRICES[20])


def test_who_is_dearer_and_believed_worse_is_climbed_over() -> None:
    """After an answer that is visibly wrong the next dearer worker is asked that is believed to be better."""
    workers, _, last = played(asked("How many?", 0.5), {"good": "", "best": "3"})
    assert workers[:2] == ["good", "best"]
    assert isinstance(last, Answer)
    assert last.text == "3"


def test_where_the_best_gives_no_answer_somebody_else_does() -> None:
    """Nobody dearer is worth asking then, so the one that is worth most of the rest is asked."""
    down = Failure("overloaded", "busy")
    workers, _, last = played(asked("How many?", 1.0), {"best": down, "good": "3", "flash": "3", "hype": "3"})
    assert workers[0] == "best"
    assert isinstance(last, Answer)
    assert last.text == "3"


def test_a_second_opinion_is_bought_where_it_is_worth_its_price() -> None:
    """At dial 1 a call costs next to nothing beside being right; at the usual dial one opinion does here."""
    says = {"best": "4", "good": "4", "hype": "5", "flash": "4", "weak": "4", "tiny": "4"}
    workers, notes, last = played(asked("How many?", 1.0), says)
    assert len(workers) == 2
    assert notes[1].by == "prior"
    assert notes[1].options[0].estimates["worth"] > 0
    assert isinstance(last, Answer)
    assert "say the same" in last.why
    alike = tuple(card(c.id, 1.0, 1.0) for c in POOL)
    workers, notes, last = played(asked("How many?", 0.2, alike), says)
    assert len(workers) == 1
    assert notes[1].reason == "no second opinion is worth its price"


@pytest.mark.parametrize(("third", "text"), [("7", "7"), ("5", "5"), ("9", "7")])
def test_where_two_differ_a_third_settles_it_or_the_likeliest_speaks(third: str, text: str) -> None:
    """Two that agree are right; where all three differ, the one that is believed to be right most often."""
    wanted = second(POOL, priors(POOL), "best", 1.0)
    assert wanted is not None
    workers, _, last = played(
        asked("How many?", 1.0), {"best": "7", wanted.worker: "5", wanted.decides: third}
    )
    assert workers == ["best", wanted.worker, wanted.decides]
    assert isinstance(last, Answer)
    assert last.text == text


def test_a_limit_ends_the_asking_with_the_answer_that_is_there() -> None:
    """No money for a second opinion is no reason to lose the first."""
    refused = Failure("limit", "no money left")
    workers, _, last = played(
        asked("How many?", 1.0), {"best": "7"} | dict.fromkeys(("good", "hype", "flash", "weak"), refused)
    )
    assert len(workers) == 2
    assert isinstance(last, Answer)
    assert (last.text, last.why) == ("7", "no second opinion came")


def test_repute_was_won_without_tools_and_does_not_count_for_calls() -> None:
    """The sets that it comes from have no calls and no images: there prices decide, as where nothing is known."""
    tools = ({"type": "function", "function": {"name": "f"}},)
    _, notes, _ = played(asked("Look it up.", 0.0, tools=tools), {"tiny": "x", "flash": "x"})
    assert notes[0].picked == "tiny"
    assert "prices alone" in notes[0].reason
    shown = Message(
        "user", (Part("text", "How many?"), Part("image_url", data={"url": "data:image/png;base64,AA"}))
    )
    _, notes, _ = played(Request(messages=(shown,), pool=POOL, dial=0.0), {"tiny": "x"})
    assert "prices alone" in notes[0].reason


def test_without_any_repute_all_is_as_with_prices_alone() -> None:
    """The sparring pool without its artefact, and every pool of unknown names, is served as before."""
    pool = tuple(replace(c, repute=None) for c in POOL)
    _, notes, _ = played(asked("Explain entropy.", 0.5, pool), {})
    assert notes[0].picked == "weak"  # midway on the ladder of prices
    assert all(set(o.estimates) == {"prior"} for o in notes[0].options)


def test_an_unknown_name_counts_as_the_known_ones_do_at_its_price() -> None:
    """Beside workers of repute it is neither favoured nor ruled out."""
    found = priors((card("known", 1.0, 1.0), card("unknown", 1.0)))
    assert found["unknown"] == found["known"]


def test_a_worker_without_a_known_price_counts_as_the_dearest() -> None:
    """What it takes is not known, so it is not taken for a bargain."""
    pool = (card("a", 1.0, 1.0), card("b", 10.0, 1.5), replace(card("c", 0.0, 1.0), priced=False))
    worth = worths(pool, priors(pool), 0.5)
    assert worth["c"] < worth["a"]


def test_the_price_of_a_call_is_of_who_may_well_be_the_best() -> None:
    """A cheap one that is believed best by a hair does not make everybody else unaffordable."""
    pool = (card("bargain", 0.1, 1.01), card("classic", 10.0, 1.0))
    worth = worths(pool, priors(pool), 0.0)
    assert worth["classic"] > -1.5  # of the bargain's price alone it would take 100 calls


def test_of_equals_the_cheaper_one_stays() -> None:
    """And nobody that is cheaper is ever passed over for a dearer one."""
    pool = (card("a", 1.0, 1.0), card("b", 1.0, 1.0), card("c", 2.0, 1.2))
    assert list(passed_over(pool, priors(pool))) == ["b"]


def test_a_dear_worker_is_played_unnamed_only_where_it_was_measured() -> None:
    """A price far above the others' is met by those who named the worker, or where its record says what it is worth."""
    cheap = tuple(card(f"c{k}", 0.1, 0.0) for k in range(4))
    measured, kin = card("m", 50.0, 2.0), card("k", 50.0, 2.0, measured=False)
    assert measured not in usual((*cheap, measured), 3)
    assert reputed((*cheap, measured, kin), 3) == [*cheap, measured]


def test_the_outlook_covers_second_opinions() -> None:
    """Three calls are the most; a text at the usual dial is one."""

    def quotes(ask: Ask) -> Quote:
        return Quote(PICO, 2 * PICO, 10, 10)

    assert LADDER.outlook(asked("Explain entropy."), quotes).calls.expected == 1
    value = LADDER.outlook(asked("How many?", 1.0), quotes)
    assert value.calls.most >= 3
    assert value.calls.expected >= 2
