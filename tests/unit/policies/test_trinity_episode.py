"""An episode of TRINITY as plain values: who may play, what they are asked, what counts as the answer, when it is over."""

import pytest

from stretto.policies.coordinator import Observation
from stretto.policies.episode import (
    THINKER,
    VERIFIER,
    WORKER,
    Episode,
    Rules,
    advanced,
    allowed,
    observed,
    opening,
    prompt,
)
from stretto.policies.forms import GIVEN, TAGGED
from stretto.sparring.roles import handed_over, thinker_prompt, verifier_prompt

QUESTION = "Reverse tip and then count the vowels of it."
SPARRING = Rules(GIVEN, heeds=False, verifier="agreement")
VERDICT = Rules(GIVEN, heeds=False)
GENERAL = Rules(TAGGED)
ALL = ((True, True, True),) * 3


def played(rules: Rules, *turns, question: str = QUESTION) -> Episode:
    """The episode after `(role, worker, said)` turns; `None` said is a failure."""
    episode = opening(question)
    for role, worker, said in turns:
        assert not episode.ended
        episode = advanced(rules, episode, role, worker, said or "", failed=said is None)
    return episode


def open_roles(rules: Rules, episode: Episode) -> list[int]:
    return [role for role, who in enumerate(allowed(rules, episode, ALL)) if any(who)]


# --- what is asked ---


def test_without_a_thinker_a_worker_is_asked_the_question():
    """Nothing is put around it."""
    for rules in (SPARRING, GENERAL):
        assert prompt(rules, opening(QUESTION), WORKER) == QUESTION


def test_a_sparring_thinker_writes_the_next_sub_problem_and_workers_carry_on():
    """The prompts are the trained ones: first step, sub-problem alone, next step, sub-problem with the reply handed over."""
    episode = opening(QUESTION)
    assert prompt(SPARRING, episode, THINKER) == thinker_prompt(QUESTION)

    episode = advanced(SPARRING, episode, THINKER, 0, "reverse tip.")
    assert prompt(SPARRING, episode, WORKER) == "reverse tip."
    assert prompt(SPARRING, episode, THINKER) == thinker_prompt(QUESTION)

    episode = advanced(SPARRING, episode, WORKER, 1, "pit")
    assert (episode.answer, episode.author, episode.answered) == ("pit", 1, "reverse tip.")
    assert prompt(SPARRING, episode, THINKER) == thinker_prompt(QUESTION, "reverse tip.", "pit")

    episode = advanced(SPARRING, episode, THINKER, 0, "count the vowels of it.")
    assert prompt(SPARRING, episode, WORKER) == handed_over("count the vowels of it.", ["pit"])
    assert episode.answer == "pit"


def test_another_worker_turn_does_the_same_sub_problem_again():
    """Without a new sub-problem the last one is asked again, with the reply that it builds on, not with its own answer."""
    episode = played(
        SPARRING,
        (THINKER, 0, "reverse tip."),
        (WORKER, 1, "pit"),
        (THINKER, 0, "count it."),
        (WORKER, 1, "9"),
    )
    assert prompt(SPARRING, episode, WORKER) == handed_over("count it.", ["pit"])


def test_only_what_a_reply_comes_to_is_handed_on():
    """Number specialists show their working; hand-overs were trained on bare answers."""
    episode = played(SPARRING, (THINKER, 0, "add 8 and 9."), (WORKER, 1, "8+9=17 = 17"))
    assert prompt(SPARRING, episode, THINKER) == thinker_prompt(QUESTION, "add 8 and 9.", "17")


def test_a_thinker_begins_at_the_beginning_after_the_whole_was_answered():
    """What was said to the whole question is told to the thinker, and is no step that the next sub-problem could build on."""
    episode = played(SPARRING, (WORKER, 1, "7"))
    assert prompt(SPARRING, episode, THINKER) == thinker_prompt(QUESTION, QUESTION, "7")
    assert prompt(SPARRING, advanced(SPARRING, episode, THINKER, 0, "reverse tip."), WORKER) == "reverse tip."


def test_a_general_worker_answers_the_whole_and_sees_earlier_answers_and_the_advice():
    """TRINITY's templates: earlier answers as an information block, the suggestion once, the answer complete."""
    said = "<suggestion>mind the vowels</suggestion><suggested_role>solver</suggested_role>"
    episode = played(GENERAL, (WORKER, 1, "one"), (THINKER, 0, said))
    text = prompt(GENERAL, episode, WORKER)
    assert "one" in text
    assert "mind the vowels" in text
    assert QUESTION in text
    assert text.endswith(TAGGED.last)

    after = advanced(GENERAL, episode, WORKER, 2, "two")
    assert "mind the vowels" not in prompt(GENERAL, after, WORKER)
    assert "one" in prompt(GENERAL, after, WORKER)
    assert "two" in prompt(GENERAL, after, WORKER)


@pytest.mark.parametrize(
    "said", ["<suggestion>x</suggestion>", "<suggested_role>solver</suggested_role>", "I would check it"]
)
def test_a_suggestion_counts_only_with_a_role(said: str):
    """Both tags must be there, as in the paper's code; else nothing is suggested, and nobody is proposed."""
    episode = played(GENERAL, (THINKER, 0, said))
    assert (episode.hint, episode.wants) == ("", -1)


def test_the_advice_is_consumed_by_the_verifier_too():
    """Whoever comes next sees it, and nobody after that."""
    said = "<suggestion>check the count</suggestion><suggested_role>verifier</suggested_role>"
    episode = played(GENERAL, (WORKER, 1, "one"), (THINKER, 0, said))
    assert "check the count" in prompt(GENERAL, episode, VERIFIER)
    revised = advanced(GENERAL, episode, VERIFIER, 2, "REVISE: it is two")
    assert "it is two" in prompt(GENERAL, revised, WORKER)
    assert "check the count" not in prompt(GENERAL, revised, WORKER)


def test_a_failed_turn_changes_nothing_but_the_count():
    """The advice, the sub-problem and the answer stand as before."""
    before = played(SPARRING, (WORKER, 0, "3"), (THINKER, 1, "reverse tip."))
    after = advanced(SPARRING, before, WORKER, 2, "", failed=True)
    assert prompt(SPARRING, after, WORKER) == prompt(SPARRING, before, WORKER)
    assert (after.answer, after.author, len(after.turns)) == ("3", 0, 3)


# --- who may play ---


def test_a_verifier_before_any_answer_cannot_be_picked():
    """So it can end nothing."""
    assert open_roles(SPARRING, opening(QUESTION)) == [WORKER, THINKER]
    assert open_roles(SPARRING, played(SPARRING, (THINKER, 0, "reverse tip."))) == [WORKER, THINKER]
    assert open_roles(SPARRING, played(SPARRING, (WORKER, 0, "7"))) == [WORKER, THINKER, VERIFIER]


def test_nobody_thinks_when_no_turn_is_left_to_use_it():
    """At the last turn a worker answers, or the answer is verified; where there is none, a worker answers."""
    rules = Rules(GIVEN, turns=2, heeds=False)
    assert open_roles(rules, played(rules, (WORKER, 0, "7"))) == [WORKER, VERIFIER]
    assert open_roles(rules, played(rules, (THINKER, 0, "reverse tip."))) == [WORKER]


def test_who_failed_sits_out_one_turn():
    """Unless there is nobody else."""
    episode = played(SPARRING, (WORKER, 1, None))
    assert allowed(SPARRING, episode, ALL)[WORKER] == (True, False, True)
    assert allowed(SPARRING, episode, ((False, True, False),) * 3)[WORKER] == (False, True, False)
    assert allowed(SPARRING, advanced(SPARRING, episode, WORKER, 0, "7"), ALL)[WORKER] == (True, True, True)


def test_nobody_agrees_with_its_own_answer():
    """Where agreement verifies, it takes another worker; without one there is no verifier."""
    episode = played(SPARRING, (WORKER, 1, "7"))
    assert allowed(SPARRING, episode, ALL)[VERIFIER] == (True, False, True)
    assert not any(allowed(SPARRING, episode, ((False, True, False),) * 3)[VERIFIER])
    assert allowed(VERDICT, episode, ALL)[VERIFIER] == (True, True, True)


def test_the_role_that_a_thinker_proposes_is_the_next_one():
    """Where proposals bind; a verifier is not proposed into nothing, and the proposal holds for one turn."""
    said = "<suggestion>check</suggestion><suggested_role>verifier</suggested_role>"
    assert open_roles(GENERAL, played(GENERAL, (THINKER, 0, said))) == [WORKER, THINKER]
    proposed = played(GENERAL, (WORKER, 0, "7"), (THINKER, 0, said))
    assert open_roles(GENERAL, proposed) == [VERIFIER]
    assert open_roles(GENERAL, advanced(GENERAL, proposed, VERIFIER, 1, "REVISE")) == [
        WORKER,
        THINKER,
        VERIFIER,
    ]
    free = Rules(TAGGED, heeds=False)
    assert open_roles(free, played(free, (WORKER, 0, "7"), (THINKER, 0, said))) == [
        WORKER,
        THINKER,
        VERIFIER,
    ]


def test_roles_that_are_not_used_are_never_open():
    """An ablation without a thinker, and the form without roles."""
    thinkerless = Rules(GIVEN, roles=("worker", "verifier"), heeds=False)
    assert open_roles(thinkerless, played(thinkerless, (WORKER, 0, "7"))) == [WORKER, VERIFIER]
    free = Rules(GIVEN, roles=("worker",), heeds=False)
    assert open_roles(free, played(free, (WORKER, 0, "7"))) == [WORKER]


# --- when it is over ---


def test_an_accepting_verdict_ends_the_run_with_the_last_worker_answer():
    """A rejecting one, and one that is neither, do not."""
    episode = played(VERDICT, (WORKER, 0, "7"), (WORKER, 1, "8"))
    assert prompt(VERDICT, episode, VERIFIER) == verifier_prompt(QUESTION, "8")
    accepted = advanced(VERDICT, episode, VERIFIER, 2, "yes")
    assert (accepted.ended, accepted.answer) == ("accepted", "8")
    for said in ("no", "perhaps", "yesterday"):
        assert not advanced(VERDICT, episode, VERIFIER, 2, said).ended


def test_agreement_asks_the_same_again_and_an_equal_answer_accepts():
    """The sub-problem as the author got it, in another worker's hands; working and spelling do not count."""
    episode = played(
        SPARRING,
        (THINKER, 0, "reverse tip."),
        (WORKER, 1, "pit"),
        (THINKER, 0, "count it."),
        (WORKER, 1, "3 = 1"),
    )
    assert prompt(SPARRING, episode, VERIFIER) == handed_over("count it.", ["pit"])
    assert advanced(SPARRING, episode, VERIFIER, 2, "1.").ended == "accepted"
    # it was the last turn, so a different answer ends it too, but for another reason
    assert advanced(SPARRING, episode, VERIFIER, 2, "2").ended == "turns"


def test_the_last_turn_ends_the_run_with_the_last_worker_answer():
    """However the turns were spent."""
    rules = Rules(GIVEN, turns=3, heeds=False)
    episode = played(rules, (WORKER, 0, "7"), (WORKER, 1, None), (VERIFIER, 1, "no"))
    assert (episode.ended, episode.answer, episode.author) == ("turns", "7", 0)


def test_done_ends_the_run_only_where_that_is_set_and_there_is_an_answer():
    """A thinker who says that nothing is left, before anything was done, is not believed."""
    rules = Rules(GIVEN, heeds=False, done_ends=True)
    assert not played(rules, (THINKER, 0, "done")).ended
    assert played(rules, (WORKER, 0, "7"), (THINKER, 0, "done")).ended == "done"
    assert not played(SPARRING, (WORKER, 0, "7"), (THINKER, 0, "done")).ended


def test_without_roles_two_workers_who_say_the_same_end_the_run():
    """One worker that repeats itself is no second opinion."""
    free = Rules(GIVEN, roles=("worker",), heeds=False)
    assert not played(free, (WORKER, 0, "7"), (WORKER, 0, "7")).ended
    assert played(free, (WORKER, 0, "7"), (WORKER, 1, "8"), (WORKER, 2, "3+4 = 7")).ended == "agreed"
    assert not played(SPARRING, (WORKER, 0, "7"), (WORKER, 1, "7")).ended
    assert played(Rules(GIVEN, turns=1, roles=("worker",)), (WORKER, 0, "7")).ended == "turns"


# --- what the coordinator observes ---


def test_a_transcript_holds_every_turn_that_brought_something():
    """Raw `role: content` text; a failed turn is not told."""
    observation = Observation(system="Pick.")
    episode = played(GENERAL, (WORKER, 1, "one"), (WORKER, 2, None), (THINKER, 0, "hm"), (WORKER, 2, "two"))
    text = observed(observation, GENERAL, episode)
    assert text.startswith(f"system: Pick.\nuser: {QUESTION}\n\n<reference_thought_1>\none\n")
    assert "<suggestion_1>\nhm\n" in text
    assert "<reference_thought_2>\ntwo\n" in text
    assert "<reference_thought_3>" not in text


def test_in_the_papers_variant_only_worker_turns_change_the_observation():
    """A role without a text goes unmentioned."""
    observation = Observation(thinker="", verifier="")
    before = played(GENERAL, (WORKER, 1, "one"))
    after = advanced(GENERAL, before, THINKER, 0, "hm")
    assert observed(observation, GENERAL, before) == observed(observation, GENERAL, after)
    assert observed(Observation(), GENERAL, before) != observed(Observation(), GENERAL, after)


def test_observed_in_forms_the_backbone_reads_the_step_that_is_to_be_done():
    """What a thinker is asked, or the pending sub-problem as a worker gets it; what changes nothing stands behind it."""
    observation = Observation(tells="forms", frame="{text}")

    def text(*turns):
        return observed(observation, SPARRING, played(SPARRING, *turns))

    one, two = (THINKER, 0, "reverse tip."), (WORKER, 1, "pit")
    assert text() == thinker_prompt(QUESTION)
    assert text(one) == "reverse tip."
    assert text(one, two) == thinker_prompt(QUESTION, "reverse tip.", "pit")
    assert text(one, two, (THINKER, 0, "count it.")) == handed_over("count it.", ["pit"])
    assert text(one, two, (THINKER, 0, "done")) == thinker_prompt(QUESTION, "reverse tip.", "pit") + " done"
    assert (
        text(one, two, (VERIFIER, 0, "tip"), (WORKER, 2, None))
        == thinker_prompt(QUESTION, "reverse tip.", "pit") + " no"
    )


def test_an_observation_is_bounded_and_spaced_as_its_format_says():
    """A long question loses its beginning, a long reply its end; then lower case and replacements."""
    observation = Observation(
        frame=" {text}", lower=True, spaced=(("+", " + "),), question_chars=3, reply_chars=2
    )
    episode = played(GENERAL, (WORKER, 1, "ABCDEF"), question="X1+2")
    assert observed(observation, GENERAL, episode).startswith(" 1 + 2\n\n<reference_thought_1>\nab\n")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"forms": "poetry"}, "forms"),
        ({"roles": ["thinker"]}, "roles"),
        ({"roles": ["worker", "boss"]}, "roles"),
        ({"verifier": "coin"}, "verifier"),
        ({"turns": 0}, "turns"),
    ],
)
def test_rules_that_make_no_sense_are_refused(data, why):
    """With the name of what is wrong."""
    with pytest.raises(ValueError, match=why):
        Rules.of(data)


def test_rules_come_from_an_artefact():
    """What it does not tell is the paper's; proposals bind where the forms let a thinker name a role."""
    assert Rules.of({}) == Rules(TAGGED)
    given = Rules.of({"forms": "given", "verifier": "agreement", "turns": 3, "roles": ["worker", "verifier"]})
    assert given == Rules(GIVEN, 3, ("worker", "verifier"), "agreement", heeds=False)
