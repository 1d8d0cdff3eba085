"""An episode of TRINITY as plain values: who may play next, what they are asked, what is the answer, when it is over.

Pure functions: `policies.trinity` plays them through the engine, and training rolls out the very same code over kept replies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from stretto.policies.coordinator import ROLES, Observation
from stretto.policies.forms import FORMS, TAGGED, Forms, Seen
from stretto.policies.signals import final_value

__all__ = [
    "THINKER",
    "VERIFIER",
    "WORKER",
    "Episode",
    "Rules",
    "Turn",
    "advanced",
    "allowed",
    "observed",
    "opening",
    "prompt",
]

WORKER: Final = 0
THINKER: Final = 1
VERIFIER: Final = 2

_OWN: Final = {"worker": WORKER, "verifier": VERIFIER, "": -1}


@dataclass(frozen=True, slots=True)
class Rules:
    """How episodes go.

    At most `turns` turns, in the `roles` that are used; `("worker",)` alone is the form of production Fugu, without roles: with
    one turn a plain choice, with more it ends when two different workers have said the same.

    `verifier`: a `verdict` is asked for, or `agreement`: the verifier is given the answered (sub-)problem, and an answer that
    comes to the same accepts. `heeds`: the role that a thinker proposes is the next one. `done_ends`: a thinker who says, after
    an answer, that nothing is left ends the run.
    """

    forms: Forms = TAGGED
    turns: int = 5
    roles: tuple[str, ...] = ROLES
    verifier: Literal["verdict", "agreement"] = "verdict"
    heeds: bool = True
    done_ends: bool = False

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Rules":
        """From an artefact's data: `forms` (a name), `turns`, `roles`, `verifier`, `heeds`, `done_ends`, where they are told.

        Without `heeds` proposals bind where the forms let thinkers name a role, as in the paper. Raises `ValueError`.
        """
        name = data.get("forms", "tagged")
        if name not in FORMS:
            raise ValueError(f"there are no forms {name!r}: {', '.join(FORMS)}")
        forms = FORMS[name]
        roles = tuple(data.get("roles", ROLES))
        if set(roles) - set(ROLES) or ROLES[WORKER] not in roles:
            raise ValueError(f"roles are worker, and perhaps thinker and verifier, not {', '.join(roles)}")
        if (verifier := data.get("verifier", "verdict")) not in ("verdict", "agreement"):
            raise ValueError(f"verifier is verdict or agreement, not {verifier!r}")
        if (turns := int(data.get("turns", 5))) < 1:
            raise ValueError(f"turns is a number from 1, not {turns}")
        heeds = bool(data.get("heeds", bool(forms.suggestion)))
        return cls(forms, turns, roles, verifier, heeds, bool(data.get("done_ends", False)))


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: a role (place in `ROLES`), a worker (place in the coordinator's list), what it was asked, what it said.

    `task`: the (sub-)problem that the episode was at. A turn that `failed` brought nothing.
    """

    role: int
    worker: int
    asked: str
    said: str
    failed: bool = False
    task: str = ""


@dataclass(frozen=True, slots=True)
class Episode:
    """Where an episode stands. Equal values go on equally.

    `task`: the sub-problem that a worker would be asked now ("" for the whole question), `given`: the earlier reply that it
    builds on; `pending`: a thinker wrote it and nobody has answered it. `hint`: a thinker's advice (or a critic's) to whoever
    comes next, where workers answer the whole. `wants`: the role proposed for the next turn, or -1. `answer` is the last
    worker's, by `author` (-1: there is none yet), to `answered` (asked as `problem`).
    `ended`: why it is over, "" while it is not.
    """

    question: str
    turns: tuple[Turn, ...] = ()
    task: str = ""
    given: str = ""
    pending: bool = False
    hint: str = ""
    wants: int = -1
    answer: str = ""
    author: int = -1
    answered: str = ""
    problem: str = ""
    ended: str = ""


def opening(question: str) -> Episode:
    """An episode of which nothing has been played."""
    return Episode(question)


def allowed(rules: Rules, episode: Episode, able: Sequence[Sequence[bool]]) -> tuple[tuple[bool, ...], ...]:
    """Who may play next: for each role, which workers, out of those who are `able` to (`able[role][worker]`).

    Nobody verifies before there is an answer, or thinks when no turn would be left to use it; without an answer the last turn
    is a worker's. Who has just failed sits out one turn, if there is anybody else. Nobody agrees with its own answer. All
    `False` where nobody can play.
    """
    answered, final = episode.author >= 0, len(episode.turns) == rules.turns - 1
    opens = [True, not final, answered]
    failed = episode.turns[-1].worker if episode.turns and episode.turns[-1].failed else -1
    found = []
    for role, name in enumerate(ROLES):
        who = [w for w, can in enumerate(able[role]) if can and opens[role] and name in rules.roles]
        if role == VERIFIER and rules.verifier == "agreement":
            who = [w for w in who if w != episode.author]
        who = [w for w in who if w != failed] or who
        found.append(tuple(w in who for w in range(len(able[role]))))
    if rules.heeds and episode.wants >= 0 and any(found[episode.wants]):
        found = [who if role == episode.wants else (False,) * len(who) for role, who in enumerate(found)]
    return tuple(found)


def prompt(rules: Rules, episode: Episode, role: int) -> str:
    """What a worker is asked in this role now; the question alone stands for the caller's own conversation."""
    forms, question = rules.forms, episode.question
    if role == THINKER:
        return forms.thinking(question, _seen(rules, episode))
    if role == VERIFIER:
        if rules.verifier == "agreement":
            return episode.problem
        text = forms.verifying(question, episode.answer)
        return text + forms.heeded.format(suggestion=episode.hint) if episode.hint else text
    if not forms.suggestion:
        given = [Seen(1, "", episode.given)] if episode.given else []
        return forms.working(question, given, episode.task or question)
    seen = _seen(rules, episode)
    if not seen and not episode.hint:
        return question
    hint = forms.heeded.format(suggestion=episode.hint) if episode.hint else ""
    return forms.working(question, seen, forms.whole + hint, last=True)


def advanced(
    rules: Rules, episode: Episode, role: int, worker: int, said: str, *, failed: bool = False
) -> Episode:
    """The episode after a turn: `worker` was asked its `prompt` in this role and `said` that; nothing, if it `failed`."""
    said = "" if failed else said.strip()
    turn = Turn(role, worker, prompt(rules, episode, role), said, not said, episode.task)
    after = replace(episode, turns=(*episode.turns, turn))
    if said:
        after = (_worked, _thought, _verified)[role](rules, replace(after, wants=-1), turn)
    if not after.ended and len(after.turns) >= rules.turns:
        return replace(after, ended="turns")
    return after


def _worked(rules: Rules, episode: Episode, turn: Turn) -> Episode:
    before = [t for t in episode.turns[:-1] if t.role == WORKER and t.worker != turn.worker and t.said]
    agreed = rules.roles == ROLES[:1] and final_value(turn.said) in {final_value(t.said) for t in before}
    return replace(
        episode,
        pending=False,
        hint="",
        answer=turn.said,
        author=turn.worker,
        answered=turn.task,
        problem=turn.asked,
        ended="agreed" if agreed else "",
    )


def _thought(rules: Rules, episode: Episode, turn: Turn) -> Episode:
    forms, answered = rules.forms, episode.author >= 0
    suggestion = forms.thought(turn.said)
    after = replace(episode, wants=_OWN[suggestion.role])
    if forms.suggestion:
        return replace(after, hint=suggestion.subtask)
    if suggestion.subtask:
        # what was said to the whole question is no earlier step: after it a thinker begins at the beginning
        given = episode.answer if answered and episode.answered else ""
        return replace(after, task=suggestion.subtask, given=given, pending=True)
    done = suggestion.role == "verifier" and answered
    return replace(after, ended="done" if done and rules.done_ends else "")


def _verified(rules: Rules, episode: Episode, turn: Turn) -> Episode:
    if rules.verifier == "agreement":
        accepts = final_value(turn.said) == final_value(episode.answer)
    else:
        accepts = rules.forms.verdict(turn.said) is True
    if accepts:
        return replace(episode, ended="accepted")
    critic = rules.forms.suggestion and rules.verifier == "verdict"
    return replace(episode, hint=turn.said[: rules.forms.subtask_chars] if critic else "")


def _seen(rules: Rules, episode: Episode) -> tuple[Seen, ...]:
    """What a thinker sees of earlier turns, and a worker who answers the whole: the latest answer, or every one."""
    if not rules.forms.suggestion:
        if episode.author < 0:
            return ()
        return (Seen(1, episode.answered or episode.question, episode.answer),)
    answers = [turn for turn in episode.turns if turn.role == WORKER and not turn.failed]
    return tuple(Seen(n, rules.forms.whole, turn.said) for n, turn in enumerate(answers, 1))


def observed(observation: Observation, rules: Rules, episode: Episode) -> str:
    """What the coordinator's backbone reads of an episode. A long question loses its beginning, a long reply its end."""
    if observation.tells == "forms":
        return observation.framed(_in_forms(rules, episode)[-observation.question_chars :])
    most, question = observation.reply_chars, episode.question[-observation.question_chars :]
    pieces, often = [question], [0, 0, 0]
    for turn in episode.turns:
        piece = (observation.worker, observation.thinker, observation.verifier)[turn.role]
        if piece and not turn.failed:
            often[turn.role] += 1
            task, said = turn.task or question, turn.said[:most]
            number = often[turn.role]
            pieces.append(piece.format(number=number, worker=turn.worker, task=task[:most], reply=said))
    return observation.framed("".join(pieces) + observation.end)


def _in_forms(rules: Rules, episode: Episode) -> str:
    """The step that is to be done now: what a worker would be asked if a thinker has just written it, else what a thinker would.

    What was said since the last answer without changing that stands behind it: `done`, or that the answer was not accepted.
    """
    if episode.pending:
        return prompt(rules, episode, WORKER)
    marks = []
    for turn in reversed(episode.turns):
        if turn.role == WORKER and not turn.failed:
            break
        if not turn.failed:
            marks.append(rules.forms.done if turn.role == THINKER else rules.forms.rejects[0])
    return " ".join([prompt(rules, episode, THINKER), *reversed(marks)])
