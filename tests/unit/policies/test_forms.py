"""How steps are worded: the trained wordings to the letter, the tagged ones for general models, and how replies are read."""

import pytest

from stretto.policies.forms import FORMS, GIVEN, TAGGED, Seen, Suggestion, put_to
from stretto.sparring import roles, wordings
from stretto.testing import question
from stretto.types import Message, Part, Request, ToolCall

SEEN = (Seen(1, "sort the letters of planet", "aelnpt"), Seen(2, "reverse it", "tpnlea"))


def test_given_is_what_the_sparring_models_are_trained_on():
    """Every text of GIVEN equals the frozen wording, since a tiny model follows only what it has seen."""
    assert GIVEN.reply == wordings.GIVEN
    assert GIVEN.thinker_first == wordings.THINKER_FIRST
    assert GIVEN.thinker == wordings.THINKER
    assert GIVEN.done == wordings.DONE
    assert GIVEN.verifier == wordings.VERIFIER
    assert (GIVEN.rejects[0], GIVEN.accepts[0]) == wordings.VERDICTS


def test_given_words_whole_prompts_as_the_training_data_does():
    """Hand-over, thinker and verifier prompts are the same texts that the training data are made with."""
    assert GIVEN.working("Q", SEEN, "count it") == roles.handed_over("count it", ["aelnpt", "tpnlea"])
    assert GIVEN.working("Q", (), "count it", last=True) == "count it"
    assert GIVEN.thinking("Q", ()) == roles.thinker_prompt("Q")
    assert GIVEN.thinking("Q", SEEN) == roles.thinker_prompt("Q", "reverse it", "tpnlea")
    assert GIVEN.verifying("Q", "x") == roles.verifier_prompt("Q", "x")


def test_tagged_tells_the_task_what_may_be_seen_and_the_own_part():
    """A general model is told the overall task, the pairs it may see under their numbers, and its subtask; the last one more."""
    text = TAGGED.working("What is 2+2?", SEEN[1:], "Check it", last=True)

    assert "<overall_task>\nWhat is 2+2?\n</overall_task>" in text
    assert "<Agent 2 response>\ntpnlea\n</Agent 2 response>" in text
    assert "aelnpt" not in text
    assert "Check it" in text
    assert text.endswith(TAGGED.last)


@pytest.mark.parametrize("forms", FORMS.values(), ids=FORMS)
def test_braces_in_what_others_wrote_are_text(forms):
    """Curly braces in a question, a reply or a sub-problem are never filled in."""
    wild = "{question} {0} {seen.__class__} {"

    for text in (
        forms.working(wild, (Seen(1, wild, wild),), wild),
        forms.thinking(wild, (Seen(1, wild, wild),)),
        forms.verifying(wild, wild),
    ):
        assert wild in text


def test_a_reply_that_others_see_is_capped():
    """One very long reply must not push everything else out of the next worker's context."""
    assert GIVEN.shown("x" * 1000) == "x" * GIVEN.reply_chars + " [cut]"


@pytest.mark.parametrize(
    ("forms", "text", "expected"),
    [
        (GIVEN, "reverse it", Suggestion("reverse it", "worker")),
        (GIVEN, " Done.", Suggestion("", "verifier")),
        (GIVEN, "  ", Suggestion("", "")),
        (
            TAGGED,
            "well <suggestion>sort it</suggestion> <suggested_role>solver</suggested_role>",
            Suggestion("sort it", "worker"),
        ),
        (
            TAGGED,
            "<suggestion>check</suggestion><suggested_role>Verifier</suggested_role>",
            Suggestion("check", "verifier"),
        ),
        (TAGGED, "<suggestion>sort it</suggestion>", Suggestion("", "")),
        (TAGGED, "<suggested_role>solver</suggested_role>", Suggestion("", "")),
        (TAGGED, "</suggestion><suggestion>", Suggestion("", "")),
    ],
)
def test_a_thinkers_reply_is_a_suggestion_only_where_it_is_complete(forms, text, expected):
    """Tiny thinkers say the sub-problem or `done`; general ones need both tags, else nothing was suggested."""
    assert forms.thought(text) == expected


@pytest.mark.parametrize(
    ("forms", "text", "expected"),
    [
        (GIVEN, "yes", True),
        (GIVEN, "No.", False),
        (GIVEN, "42", None),
        (TAGGED, "**ACCEPT** it is right", True),
        (TAGGED, "REVISE: the sum is wrong", False),
        (TAGGED, "I accept", None),
        (TAGGED, "", None),
    ],
)
def test_a_verdict_is_the_first_word(forms, text, expected):
    """A verifier that begins with neither word has given no verdict."""
    assert forms.verdict(text) is expected


def test_steps_keep_the_conversation_and_replace_the_last_question():
    """Earlier turns and pictures stay; the text of the last user message becomes the step's."""
    picture = Part("image_url", data={"url": "data:,"})
    request = Request(
        messages=(
            Message("system", "be brief"),
            Message("user", "hi"),
            Message("assistant", "hello"),
            Message("user", (Part("text", "what is this?"), picture)),
        )
    )

    put = put_to(request, "STEP", tools=True)

    assert put[:3] == request.messages[:3]
    assert put[3].content == (Part("text", "STEP"), picture)
    assert put_to(question("q"), "STEP", tools=False) == (Message("user", "STEP"),)


def test_tool_calls_of_the_conversation_are_seen_as_text_by_those_without_tools():
    """Shared memory across turns: what tools said earlier is in every step's conversation, behind the question it was for."""
    request = Request(
        messages=(
            Message("user", "weather?"),
            Message("assistant", tool_calls=(ToolCall("c1", "look", '{"city": "Ulm"}'),)),
            Message("tool", "rain", tool_call_id="c1"),
        )
    )

    without, with_tools = put_to(request, "STEP", tools=False), put_to(request, "STEP", tools=True)

    assert [m.role for m in with_tools] == ["user", "assistant", "tool", "user"]
    assert "look" in without[1].text
    assert "rain" in without[2].text
    assert without[-1].text == with_tools[-1].text == "STEP"
