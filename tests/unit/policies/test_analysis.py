"""The analyst: what it is asked, how its replies are read, what its failure leaves."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.policies.fuse import Fuse
from stretto.policies.panel.analysis import findings
from stretto.steps import Ask, Note
from stretto.testing import by_hand, question, said
from stretto.types import Answer, Card, Failure, Reply, Request

LISTS = ("consensus", "contradictions", "partial_coverage", "unique_insights", "blind_spots")
WORKERS = ("opus", "gpt")
WHOLE = {
    "consensus": ["both say yes"],
    "contradictions": [
        {"topic": "when", "stances": [{"model": "A", "stance": "now"}, {"model": "B", "stance": "later"}]}
    ],
    "partial_coverage": [{"models": ["A"], "point": "cost"}],
    "unique_insights": [{"model": "Answer B", "insight": "a way back"}],
    "blind_spots": ["nobody asks why"],
}
NAMED = {
    "consensus": ["both say yes"],
    "contradictions": [
        {
            "topic": "when",
            "stances": [{"model": "opus", "stance": "now"}, {"model": "gpt", "stance": "later"}],
        }
    ],
    "partial_coverage": [{"models": ["opus"], "point": "cost"}],
    "unique_insights": [{"model": "gpt", "insight": "a way back"}],
    "blind_spots": ["nobody asks why"],
}


def policy(**fields: Any) -> Fuse:
    """Two members, an analyst, a writer."""
    return Fuse(WORKERS, how="synthesise", judge="j", writer="w", analysis=True, **fields)


def request(*more: str) -> Request:
    """The question, with everybody in the pool."""
    return question("q", *WORKERS, "j", "w", *more)


def play(verdict: Reply, asked: Request | None = None) -> tuple[list[Any], Any]:
    """A run whose analyst says `verdict`."""

    def answer(step: Any) -> Reply:
        if step.role == "judge":
            return verdict
        return said(f"{step.worker} says so", step.worker)

    return by_hand(policy().plan(asked or request()), answer)


# --- the stage ---


def test_an_analysis_goes_to_the_writer_and_to_the_caller() -> None:
    """The five lists stand in the writer's prompt; the result has OpenRouter's schema, with letters turned into worker ids."""
    _, last = play(said(json.dumps(WHOLE), "j"))

    assert isinstance(last, Ask)
    assert last.more == {
        "fusion": {
            "status": "ok",
            "analysis": NAMED,
            "responses": [{"model": w, "content": f"{w} says so"} for w in WORKERS],
        }
    }
    assert "a way back" in (last.messages or ())[0].text
    assert last.otherwise is not None
    assert last.otherwise.more == last.more


def test_the_analyst_is_asked_for_json_at_temperature_zero_and_sees_letters() -> None:
    """Names would let it favour a maker; the form is enforced where the worker can."""
    steps, _ = play(said("{}", "j"))
    able = Request(
        messages=request().messages,
        pool=(*(Card(w) for w in (*WORKERS, "w")), Card("j", abilities=frozenset({"text", "json"}))),
    )
    formed, _ = play(said("{}", "j"), able)

    ask = next(step for step in steps if isinstance(step, Ask))
    assert (ask.worker, ask.role, ask.params, ask.response_format) == ("j", "judge", {"temperature": 0}, None)
    text = (ask.messages or ())[0].text
    assert 'name="A"' in text
    assert 'name="opus"' not in text
    assert next(s for s in formed if isinstance(s, Ask)).response_format == {"type": "json_object"}


@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        (Reply(error=Failure("timeout", "too slow")), "failed (timeout: too slow)"),
        (said("I would rather not.", "j"), "holds none of the lists"),
        (said('{"verdict": "A"}', "j"), "holds none of the lists"),
    ],
)
def test_a_failed_analysis_leaves_the_raw_answers(verdict: Reply, why: str) -> None:
    """The status stays ok, without an analysis; the writer goes on from the drafts, and the record says why."""
    steps, last = play(verdict)

    assert isinstance(last, Ask)
    result = last.more["fusion"]
    assert (result["status"], "analysis" in result, len(result["responses"])) == ("ok", False, 2)
    assert "opus says so" in (last.messages or ())[0].text
    assert "analyst" not in (last.messages or ())[0].text
    (note,) = [s.choice for s in steps if isinstance(s, Note)]
    assert (note.picked, why in note.reason) == ("raw answers", True)


def test_failed_and_unknown_members_are_named_in_the_result() -> None:
    """Each with its cause; the panel goes on without them."""
    mine = Fuse((*WORKERS, "nobody"), how="synthesise", judge="j", writer="w", analysis=True)

    def answer(step: Any) -> Reply:
        if step.worker == "gpt":
            return Reply(error=Failure("rate_limited", "the provider's own words", status=429), worker="gpt")
        return said("{}" if step.role == "judge" else "yes", step.worker)

    _, last = by_hand(mine.plan(request()), answer)

    assert isinstance(last, Ask)
    assert last.more["fusion"]["failed_models"] == [
        {"model": "gpt", "error": "rate_limited", "status_code": 429},
        {"model": "nobody", "error": "is not among the workers this request may use"},
    ]
    assert "gpt failed (rate_limited)" in last.reason


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        (("limit", "limit"), "insufficient_credits"),
        (("rate_limited", "rate_limited"), "rate_limited"),
        (("rate_limited", "cut"), "all_panels_failed"),
        (("policy", "cut"), "unexpected_error"),
    ],
)
def test_a_panel_without_an_answer_is_an_error_with_its_reason(kinds: tuple[Any, Any], reason: str) -> None:
    """The reasons are OpenRouter's."""
    causes = dict(zip(WORKERS, kinds, strict=True))

    _, last = by_hand(policy().plan(request()), lambda s: Reply(error=Failure(causes[s.worker], "m")))

    assert isinstance(last, Ask)
    result = last.more["fusion"]
    assert (result["status"], result["failure_reason"]) == ("error", reason)
    assert [f["model"] for f in result["failed_models"]] == list(WORKERS)


# --- reading ---


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(WHOLE),
        f"Here it is:\n```json\n{json.dumps(WHOLE, indent=2)}\n```\nI hope {{that}} helps.",
        json.dumps({"analysis": WHOLE}),
        json.dumps(WHOLE).replace('"]}', '",]}'),
        "{not json} " + json.dumps(WHOLE),
    ],
)
def test_an_analysis_is_found_in_whatever_is_around_it(text: str) -> None:
    """Prose, fences, a wrapper, a comma too many, braces that are none of it."""
    assert findings(text, WORKERS) == NAMED


def test_texts_where_objects_belong_are_kept_as_texts() -> None:
    """What the analyst says is not thrown away for its form."""
    loose = {
        "consensus": "only one",
        "contradictions": [
            "they differ",
            {"topic": "x", "stances": {"A": "yes", "B": "no"}},
            {"point": "y", "stances": ["yes"]},
        ],
        "partial_coverage": ["cost", {"model": "A and B", "topic": "time"}],
        "unique_insights": ["b sees it", {"model": "gpt", "text": "other key"}],
        "blind_spots": [{"point": "as an object"}, 7, None],
    }

    assert findings(json.dumps(loose), WORKERS) == {
        "consensus": ["only one"],
        "contradictions": [
            {"topic": "they differ", "stances": []},
            {"topic": "x", "stances": [{"model": "opus", "stance": "yes"}, {"model": "gpt", "stance": "no"}]},
            {"topic": "y", "stances": [{"model": "", "stance": "yes"}]},
        ],
        "partial_coverage": [{"models": [], "point": "cost"}, {"models": ["opus", "gpt"], "point": "time"}],
        "unique_insights": [{"model": "", "insight": "b sees it"}, {"model": "gpt", "insight": "other key"}],
        "blind_spots": ["as an object", "7"],
    }


def test_missing_lists_are_empty_and_no_list_at_all_is_a_failure() -> None:
    """One list is enough to be an analysis."""
    assert findings('{"consensus": ["x"]}', WORKERS) == {
        "consensus": ["x"],
        **{name: [] for name in LISTS[1:]},
    }
    assert findings("{}", WORKERS) is None
    assert findings("[1, 2]", WORKERS) is None
    assert findings("{" * 5000, WORKERS) is None
    deep = '{"consensus": [' + '{"point": ' * 900 + "1" + "}" * 900 + "]}"
    assert findings(deep, WORKERS) is None or isinstance(findings(deep, WORKERS), dict)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["model", "models", "stances", "topic", "point", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(LISTS), JSON, min_size=1))
def test_whatever_an_analyst_returns_the_result_has_the_schema(given: dict[str, Any]) -> None:
    """Any JSON under the five keys is read into the shape that clients rely on, without an exception."""
    found = findings(json.dumps(given), WORKERS)

    assert found is not None
    assert tuple(found) == LISTS
    assert all(isinstance(text, str) for name in ("consensus", "blind_spots") for text in found[name])
    for item in found["contradictions"]:
        assert isinstance(item["topic"], str)
        assert all(isinstance(s["model"], str) and isinstance(s["stance"], str) for s in item["stances"])
    for item in found["partial_coverage"]:
        assert isinstance(item["point"], str)
        assert all(isinstance(m, str) for m in item["models"])
    for item in found["unique_insights"]:
        assert isinstance(item["model"], str)
        assert isinstance(item["insight"], str)


def test_a_limit_after_the_panel_leaves_the_best_draft_with_the_raw_answers() -> None:
    """Analyst and writer do not fit any more: the first draft is the answer, and the caller still gets what the panel said."""
    _, last = play(Reply(error=Failure("limit", "calls")))

    assert isinstance(last, Ask)
    assert isinstance(last.otherwise, Answer)
    assert last.otherwise.text == "opus says so"
    assert len(last.otherwise.more["fusion"]["responses"]) == 2
