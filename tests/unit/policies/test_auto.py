"""Auto and what it does without any evidence: rules, ways, a prior, and checks that decide whether more is spent."""

from collections.abc import Mapping
from typing import Any

import pytest

from stretto.artifacts import Artifact
from stretto.policies.auto import Auto, Planned, Way
from stretto.policies.priors import priors
from stretto.policies.route import Rule, Table, When
from stretto.policies.situation import forms, situation
from stretto.policies.solo import Solo
from stretto.policies.unlearned import Unlearned
from stretto.steps import Ask, Choice, Note, Quote, Step
from stretto.testing import by_hand, said
from stretto.types import PICO, Answer, Card, Failure, Limits, Message, Part, Price, Reply, Request

TEXT = frozenset({"text", "tools", "json"})
SURE = TEXT | {"logprobs"}
MUTE = tuple(
    Card(id, Price.per_million(usd, 4 * usd), abilities=TEXT)
    for id, usd in (("small", 0.1), ("middle", 1.0), ("big", 10.0))
)
TELLING = tuple(Card(c.id, c.price, abilities=SURE) for c in MUTE)
LADDER = Unlearned(("small", "middle", "big"), "big")


def asked(text: str, pool: tuple[Card, ...] = MUTE, **fields: Any) -> Request:
    """A request to this pool."""
    return Request(messages=(Message("user", text),), pool=pool, **fields)


def played(
    policy: Any, request: Request, says: Mapping[str, Any]
) -> tuple[list[str], list[Choice], Answer | Ask]:
    """Whom a plan asked, what it chose, and what came of it. `says`: a text, a reply or a failure for each worker."""

    def answer(step: Step) -> Reply:
        assert isinstance(step, Ask)
        given = (
            says[f"{step.worker} {step.role}"] if f"{step.worker} {step.role}" in says else says[step.worker]
        )
        if isinstance(given, Failure):
            return Reply(worker=step.worker, error=given)
        return given if isinstance(given, Reply) else said(given, step.worker)

    steps, last = by_hand(policy.plan(request), answer)
    return (
        [s.worker for s in steps if isinstance(s, Ask)],
        [s.choice for s in steps if isinstance(s, Note)],
        last,
    )


# --- without evidence --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dial", "worker"), [(0.0, "small"), (0.5, "middle"), (1.0, "big")])
def test_the_dial_picks_where_on_the_ladder_of_prices_to_begin(dial: float, worker: str) -> None:
    """With nothing learned money decides the start, and the record says that its estimates are a prior from prices."""
    _, choices, _ = played(
        LADDER, asked("Write a poem.", dial=dial), dict.fromkeys(("small", "middle", "big"), "yes")
    )

    first = choices[0]
    assert first.picked == worker
    assert first.by == "prior"
    assert [o.estimates["prior"] for o in first.options] == sorted(
        o.estimates["prior"] for o in first.options
    )


def test_of_two_workers_the_cheaper_one_begins_up_to_the_middle_of_the_dial() -> None:
    """Conservative: the dearer one has to be asked for, by the dial or by a check that fails."""
    pair = Unlearned(("small", "big"))
    for dial, worker in ((0.5, "small"), (0.6, "big")):
        _, choices, _ = played(pair, asked("Why?", dial=dial), {"small": "a", "big": "b"})
        assert choices[0].picked == worker


def test_a_text_streams_from_the_first_worker_since_nothing_would_check_it() -> None:
    """At the usual dial prose is one unconditional tail ask."""
    workers, _, last = played(LADDER, asked("Explain entropy."), {})

    assert workers == []
    assert isinstance(last, Ask)
    assert (last.worker, last.speaks) == ("middle", True)


def test_at_a_high_dial_a_text_is_verified_and_a_no_buys_the_dearer_worker() -> None:
    """The verifier is another worker than the one it checks; its no is a recorded choice."""
    says = {"middle": "A draft.", "big": "A better one.", "big verifier": "no"}
    workers, choices, last = played(LADDER, asked("Explain entropy.", dial=0.7), says)

    assert workers == ["middle", "big", "big"]
    assert choices[1].picked == "ask big"
    assert isinstance(last, Answer)
    assert last.text == "A better one."


def test_a_worker_that_tells_how_sure_it_is_needs_no_second_opinion() -> None:
    """Its own least certain token is the check: free of charge."""
    sure = said("42", "middle", logprob=-0.01)
    workers, choices, last = played(LADDER, asked("How many are 6 x 7?", TELLING), {"middle": sure})

    assert workers == ["middle"]
    assert choices[-1].picked == "accept middle"
    assert isinstance(last, Answer)
    assert "0.99" in last.why


def test_an_unsure_worker_is_followed_by_a_dearer_one() -> None:
    """Below the threshold the next rung answers, once."""
    says = {"middle": said("41", "middle", logprob=-3.0), "big": said("42", "big", logprob=-0.1)}
    workers, _, last = played(LADDER, asked("How many are 6 x 7?", TELLING), says)

    assert workers == ["middle", "big"]
    assert isinstance(last, Answer)
    assert last.text == "42"


def test_two_that_say_the_same_are_enough() -> None:
    """The second opinion comes from the cheapest other worker, never from a dearer one."""
    workers, _, last = played(LADDER, asked("How many are 6 x 7?"), {"middle": "42", "small": "42."})

    assert workers == ["middle", "small"]
    assert isinstance(last, Answer)
    assert last.why == "middle and small say the same"


@pytest.mark.parametrize(("third", "text"), [("41", "41"), ("42", "42"), ("40", "40")])
def test_where_two_differ_a_dearer_one_decides(third: str, text: str) -> None:
    """Whether it agrees with one of them or with nobody: three answers are the most."""
    workers, _, last = played(
        LADDER, asked("How many are 6 x 7?"), {"middle": "42", "small": "41", "big": third}
    )

    assert workers == ["middle", "small", "big"]
    assert isinstance(last, Answer)
    assert last.text == text


def test_prose_in_answer_to_a_short_question_buys_no_second_opinion() -> None:
    """Two paragraphs never agree letter for letter, so asking again would prove nothing."""
    workers, _, last = played(LADDER, asked("What is entropy?"), {"middle": "It is " + "disorder " * 40})

    assert workers == ["middle"]
    assert isinstance(last, Answer)


def test_a_broken_tool_call_is_asked_of_the_next_worker() -> None:
    """What can be seen wrong is enough to spend more; with tools nothing is compared."""
    from stretto.types import ToolCall

    tools = ({"type": "function", "function": {"name": "look", "parameters": {"required": ["city"]}}},)

    def calls(worker: str, arguments: str) -> Reply:
        return Reply(Message("assistant", tool_calls=(ToolCall("1", "look", arguments),)), worker=worker)

    says = {"middle": calls("middle", "{}"), "big": calls("big", '{"city": "Rome"}')}
    workers, choices, last = played(LADDER, asked("How many degrees is it?", tools=tools), says)

    assert workers == ["middle", "big"]
    assert "look lacks city" in choices[1].reason
    assert isinstance(last, Answer)
    assert last.worker == "big"


def test_a_limit_ends_the_climbing_with_the_best_so_far() -> None:
    """Money that is not there is no reason to lose the answer that is."""
    says = {
        "middle": said("41", "middle", logprob=-3.0),
        "big": Failure("limit", "no money left"),
    }
    _, _, last = played(LADDER, asked("How many are 6 x 7?", TELLING), says)

    assert isinstance(last, Answer)
    assert last.text == "41"
    assert "no money left" in last.why


def test_a_failed_worker_is_followed_by_the_next() -> None:
    """And where everybody fails, the last failure is the answer."""
    down = Failure("overloaded", "busy")
    _, _, last = played(LADDER, asked("How many?"), {"middle": down, "big": "3", "small": "3"})
    assert isinstance(last, Answer)
    assert last.text == "3"
    _, _, last = played(LADDER, asked("How many?"), dict.fromkeys(("small", "middle", "big"), down))
    assert isinstance(last, Answer)
    assert last.error == down


def test_nobody_eligible_is_a_refusal_that_names_them() -> None:
    """The caller's constraints may leave nobody."""
    _, _, last = played(LADDER, asked("Hi", ()), {})
    assert isinstance(last, Answer)
    assert last.error is not None
    assert "small, middle, big" in last.error.message


def test_the_outlook_covers_what_the_plan_may_do() -> None:
    """Calls and money of the dearest course are below the most; a text at the usual dial is one call."""

    def quotes(ask: Ask) -> Quote:
        return Quote(PICO, 2 * PICO, 10, 10)

    assert LADDER.outlook(asked("Explain entropy."), quotes).calls.expected == 1
    value = LADDER.outlook(asked("How many?"), quotes)
    assert value.calls.most >= 3
    checked = LADDER.outlook(asked("Explain entropy.", dial=0.7), quotes)
    assert checked.calls.most >= 3
    assert LADDER.outlook(asked("Hi", ()), quotes).calls.most == 0


# --- the ladder --------------------------------------------------------------------------------------------------


EVIDENCE = Way("evidence", Solo("small"), "by evidence", True, ("small",))
AUTO = Auto(
    (Rule(When(contains=("poem",)), "big", Solo("big")),), (EVIDENCE, Way("prior", LADDER, "by a prior"))
)


@pytest.mark.parametrize(
    ("request_", "picked", "why"),
    [
        (asked("a sum, and a poem"), "big", "rule 1"),
        (asked("a sum"), "evidence", "by evidence"),
        (asked("a sum", tools=({"type": "function", "function": {"name": "f"}},)), "prior", "without tools"),
        (asked("a sum", MUTE[1:]), "prior", "none of small may be used"),
        (asked("a poem", MUTE[1:2]), "prior", "none of small may be used"),
    ],
)
def test_the_first_thing_that_fits_decides_and_the_record_says_why_not_the_others(
    request_: Request, picked: str, why: str
) -> None:
    """Rules, then evidence where it fits, then the prior: one choice, with everything that was passed over."""
    _, choices, _ = played(AUTO, request_, dict.fromkeys(("small", "middle", "big"), "3"))

    assert choices[0].picked == picked
    assert why in choices[0].reason
    assert {o.name for o in choices[0].options} >= {"evidence", "prior"}


TOOLS = ({"type": "function", "function": {"name": "f"}},)


@pytest.mark.parametrize(
    ("forms", "request_", "why"),
    [
        (("value",), asked("How many are 6 x 7?"), ""),
        (("value",), asked("How many are 6 x 7?", response_format={"type": "json_object"}), ""),
        (
            ("value",),
            asked("Draft a letter."),
            "learned from requests for something short, and it asks for a text",
        ),
        (("value", "text"), asked("Draft a letter."), ""),
        (
            ("value", "text"),
            asked("Draft a letter.", tools=TOOLS),
            "something short and texts, and it offers tools",
        ),
        (("calls",), asked("Draft a letter.", tools=TOOLS), ""),
        (("calls",), asked("How many are 6 x 7?"), "learned from requests for calls of functions"),
    ],
)
def test_evidence_serves_requests_of_the_forms_that_it_was_learned_from(
    forms: tuple[str, ...], request_: Request, why: str
) -> None:
    """What sums taught says nothing of poems, and what calls of functions taught serves requests with tools."""
    way = Way("evidence", Solo("small"), "by evidence", True, ("small",), forms)
    auto = Auto((), (way, Way("prior", LADDER, "by a prior")))
    _, choices, _ = played(auto, request_, dict.fromkeys(("small", "middle", "big"), "3"))

    assert choices[0].picked == ("prior" if why else "evidence")
    assert why in choices[0].reason


def test_a_form_counts_that_more_than_a_few_requests_have() -> None:
    """One misread prompt in a hundred does not make evidence one about texts."""
    sums = [asked("How many are 6 x 7?")] * 99
    assert set(forms([*sums, asked("Draft a letter.")])) == {"value"}
    assert forms([*sums, asked("Draft a letter."), *[asked("a sum", tools=TOOLS)] * 100]) == {
        "calls": 0.5,
        "value": 0.495,
    }


def test_images_are_nothing_that_text_evidence_knows() -> None:
    """What was learned from words says nothing of pictures."""
    parts = (Part("text", "a sum"), Part("image_url", data={"url": "data:image/png;base64,AA"}))
    request = Request(messages=(Message("user", parts),), pool=MUTE)
    _, choices, _ = played(AUTO, request, {"middle": "3", "small": "3"})
    assert "images" in choices[0].reason


TABLE = Table(
    Artifact(
        "stretto.route-table/1",
        data={
            "tasks": {
                "sums": {"prior": 0.5, "workers": {"small": [96, 98]}},
                "chains": {"prior": 0.5, "workers": {"small": [9, 98], "big": [29, 98]}},
            },
            "words": {"add": {"sums": -1.0, "chains": -3.0}, "then": {"sums": -5.0, "chains": -1.0}},
            "unseen": {"sums": -6.0, "chains": -6.0},
        },
    )
)


@pytest.mark.parametrize(
    ("prompt", "fields", "why"),
    [
        ("then add", {"dial": 0.7}, ""),
        ("then add", {"dial": 0.5}, "big alone is right 30% of the time at chains"),
        ("then add", {"dial": 0.5, "pool": MUTE[:1]}, ""),
        ("add", {"dial": 1.0}, "small alone is right 97% of the time at sums"),
        ("sing", {"dial": 1.0}, "like no task"),
        ("then add", {"dial": 1.0, "limits": Limits(calls=2)}, "takes 3 calls"),
        ("then add", {"dial": 0.7, "pool": MUTE[:2]}, "big, which would plan, may not be used"),
        ("then add", {"dial": 1.0, "tools": ({"type": "function"},)}, "without tools"),
    ],
)
def test_a_workflow_is_for_what_nobody_alone_is_good_at(prompt: str, fields: Any, why: str) -> None:
    """Where the best eligible worker is right less often than half the dial, if limits allow; else the reason is told."""
    planner = "big" if fields["dial"] == 0.7 else ""
    way = Planned("conductor", Solo("big"), "by the table", True, table=TABLE, planner=planner)
    request = asked(prompt, **fields)
    told = way.unfit(request, situation(request))
    assert why in told
    assert bool(why) == bool(told)


TWO_SKILLS = Table(
    Artifact(
        "stretto.route-table/1",
        data={
            "tasks": {
                "sums": {"prior": 0.5, "workers": {"small": [96, 98]}},
                "tales": {"prior": 0.3, "workers": {"small": [96, 98]}},
                "chains": {"prior": 0.2, "workers": {"small": [9, 98], "big": [9, 98]}},
            },
            "words": {
                "add": {"sums": -1.0, "chains": -3.0},
                "then": {"tales": -5.0, "chains": -2.0},
                "give": {"tales": -1.0, "chains": -2.0},
                "it": {"chains": -5.0},
            },
            "unseen": dict.fromkeys(("sums", "tales", "chains"), -9.0),
        },
    )
)


@pytest.mark.parametrize(
    ("prompt", "fields", "why"),
    [
        (
            "add add add add add add then it",
            {},
            "",
        ),  # they speak for chains, and no task that somebody knows says them as often
        ("add add add add add add give", {}, "small alone"),  # tales say that more often: another wording
        ("add add add add add add it", {}, "small alone"),  # too little: a chance
        (
            "add add add add add add then it",
            {"dial": 0.1},
            "small alone",
        ),  # cheap: at chains, too, somebody is right often enough
        ("add add add add add add then it", {"dial": 0.0}, "small alone"),
    ],
)
def test_a_prompt_that_may_ask_for_more_than_the_task_it_looks_like_is_not_known(
    prompt: str, fields: Any, why: str
) -> None:
    """Words that its task never had, and that a task which nobody is good at has often, let the workflow look at it."""
    way = Planned("conductor", Solo("big"), "by the table", True, table=TWO_SKILLS)
    request = asked(prompt, **fields)
    told = way.unfit(request, situation(request))
    assert why in told
    assert bool(why) == bool(told)


def test_the_words_that_ask_for_more_stand_in_the_record() -> None:
    """Who reads the receipt learns why a simple task was not simple."""
    way = Planned("conductor", Solo("big"), "nobody alone", True, table=TWO_SKILLS)
    _, choices, _ = played(Auto((), (way, EVIDENCE)), asked("add add add add add add then it"), {})
    assert choices[0].picked == "conductor"
    assert "looks like sums, but no prompt of sums ever said then, it" in choices[0].reason
    _, choices, _ = played(Auto((), (way, EVIDENCE)), asked("it it it"), {})
    assert choices[0].reason == "nobody alone"


def test_the_outlook_is_that_of_the_way() -> None:
    """Choosing costs nothing."""

    def quotes(ask: Ask) -> Quote:
        return Quote(1, 2, 10, 10)

    assert AUTO.outlook(asked("a sum"), quotes) == Solo("small").outlook(asked("a sum"), quotes)


# --- what it rests on --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "fields", "form"),
    [
        ("Which is a mammal? A) trout B) bat C) wren", {}, "value"),
        ("How many vowels are in queue?", {}, "value"),
        ("What is the capital of France?", {}, "value"),
        ("Is 91 a prime? Answer with yes or no.", {}, "value"),
        ("Say it.", {"max_tokens": 5}, "value"),
        ("Write a function that counts how many vowels a word has.", {}, "text"),
        ("Explain why the sky is blue.", {}, "text"),
        ("Why is the sky blue?", {}, "text"),
        ("Hello!", {}, "text"),
        ("Ada, 36", {"response_format": {"type": "json_object"}}, "object"),
        ("How many?", {"tools": ({"type": "function", "function": {"name": "f"}},)}, "calls"),
        ("How many?", {"tools": ({"type": "function"},), "tool_choice": "none"}, "value"),
    ],
)
def test_what_is_asked_for_decides_which_evidence_counts(
    prompt: str, fields: dict[str, Any], form: str
) -> None:
    """Tools and formats for certain, wordings as far as they go."""
    assert situation(asked(prompt, **fields)).form == form


def test_a_prior_is_monotone_in_price_and_weak() -> None:
    """A hundred times the price moves the chance by less than .3; unknown and free workers count as middling."""
    found = priors((*MUTE, Card("free"), Card("unknown", Price(5), priced=False)))
    assert found["small"] < found["middle"] < found["big"]
    assert found["big"] - found["small"] < 0.3
    assert found["free"] == found["unknown"] == pytest.approx(0.62, abs=0.01)
