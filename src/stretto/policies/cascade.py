"""Cascade: cheap first, check, and only then the dearer one (FrugalGPT). The last rung's answer stands unchecked and streams."""

import itertools
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from stretto.artifacts import Artifact
from stretto.policies.judging import STANDARD, Wordings, longest, verdict
from stretto.policies.outlooks import beside, maybe, of_ask, then
from stretto.policies.route import Guess, Table, blend
from stretto.policies.settle import settle, with_otherwise
from stretto.policies.signals import confidence, same
from stretto.policies.solo import Solo
from stretto.steps import Ask, Choice, Fork, Note, Option, Outlook, Plan, Policy, Quotes, Step, put
from stretto.types import Answer, Failure, Request

__all__ = ["THRESHOLDS_SCHEMA", "Cascade", "Rung"]

THRESHOLDS_SCHEMA = "stretto.thresholds/1"

Check = Literal["confidence", "agreement", "verifier"]


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of a cascade: a policy under a name. `worker` names whose threshold counts ("": the default one)."""

    name: str
    policy: Policy
    worker: str = ""

    @classmethod
    def of_worker(cls, worker: str, check: Check) -> "Rung":
        """A rung that asks one worker, for log-probabilities where the check reads them."""
        want: Literal["logprobs", "text"] = "logprobs" if check == "confidence" else "text"
        return cls(worker, Solo(worker, want, reason="a rung of the cascade"), worker)


@dataclass(frozen=True, slots=True)
class Cascade:
    """Rungs from cheap to dear; after each but the last a check decides whether its answer stands.

    `check`: `confidence` (the probability of the least certain token, from the worker that answered, against its threshold),
    `agreement` (the share of `samples` resamples at `temperature` that say the same, against the threshold), `verifier`
    (a worker says yes). Thresholds come from an artefact of schema `THRESHOLDS_SCHEMA` (data: `workers` {id: threshold}, and
    `tasks` {task: {id: threshold}} for what `table` takes the prompt for), else `threshold` counts. An answer that a limit keeps
    from being checked, or from being bettered, is returned and says so.

    With `adapts` the ladder is made for what `table` takes the prompt for, of workers only: up to the one that is right most
    often, without those that cost as much or whose answers are never accepted; and then, for a second opinion, the next best
    of the others, if that is right more often than the best where it is not accepted (`unsure` {task: {id: share}} of the
    thresholds). A prompt like no task of the table has one rung, the broadest worker.
    """

    CODE: ClassVar[str] = "3"
    rungs: tuple[Rung, ...]
    check: Check = "confidence"
    threshold: float = 0.5
    thresholds: Artifact | None = None
    table: Table | None = None
    verifier: str = ""
    verifier_tokens: int = 256  # a worker that thinks before its yes or no must get that far
    samples: int = 2
    temperature: float = 0.8
    wordings: Wordings = STANDARD
    adapts: bool = False

    def plan(self, request: Request) -> Plan:
        """Rung by rung; each verdict is a recorded choice between accepting and escalating."""
        best: Answer | None = None
        guess = self.table.guess(request.prompt) if self.table is not None and self.thresholds else None
        task = guess.task if guess and not guess.strange else ""
        rungs = self._ladder(request, guess)
        if not rungs:
            names = ", ".join(r.name for r in self.rungs)
            return Answer(
                error=Failure("denied", f"no rung of the cascade may be used for this request: {names}")
            )
        adapted = self._chosen(rungs, guess) if guess and self.adapts else None
        if adapted is not None:
            yield Note(adapted)
        for rung, dearer in itertools.pairwise(rungs):
            answer = yield from settle(rung.policy.plan(request))
            if answer.error is not None:
                if answer.error.kind == "limit":
                    return (
                        replace(best, why=f"{rung.name} was refused: {answer.error.message}")
                        if best
                        else answer
                    )
                yield _verdict(
                    rung, dearer, None, 0.0, f"{answer.error.kind}: {answer.error.message}", self._by
                )
                continue
            score, reason = yield from self._score(request, rung, answer)
            if score is None and reason.startswith("limit"):
                return replace(answer, why=f"{rung.name} answered; unchecked ({reason})")
            least = self._least(answer.worker or rung.worker, task)
            yield _verdict(rung, dearer, score, least, reason, self._by)
            if score is not None and score >= least:
                return replace(
                    answer, why=f"{rung.name} was accepted: {self.check} {score:.2f} >= {least:.2f}"
                )
            best = answer
        last = yield from rungs[-1].policy.plan(request)
        if isinstance(last, Ask) and len(rungs) > 1:
            passed = " and ".join(rung.name for rung in rungs[:-1])
            last = replace(last, reason=f"the last rung: {passed} did not pass the check")
        elif isinstance(last, Ask) and adapted is not None:
            last = replace(last, reason=adapted.reason)
        return with_otherwise(
            last, best, f"{rungs[-1].name} gave no answer; the best of the cheaper rungs, not accepted"
        )

    def _ladder(self, request: Request, guess: Guess | None) -> list[Rung]:
        """The rungs that this request may use, and, with `adapts`, that are of use for what it looks like."""
        able = [r for r in self.rungs if not r.worker or request.card(r.worker)]
        if not self.adapts or guess is None or self.table is None:
            return able
        right = self.table.breadth() if guess.strange else self.table.estimates(guess.task)
        price = {r.name: blend(card) for r in able if (card := request.card(r.worker))}
        known = [r for r in able if r.worker in right and r.name in price]
        if not known:
            return able
        best = max(known, key=lambda r: (right[r.worker], -price[r.name]))
        if guess.strange:
            return [best]
        cheaper = [r for r in known if price[r.name] < price[best.name]]
        ladder = [*(r for r in cheaper if self._least(r.worker, guess.task) < 1.0), best]
        others = [r for r in known if r not in ladder]
        second = max(others, key=lambda r: (right[r.worker], -price[r.name]), default=None)
        if second is not None and right[second.worker] > self._unsure(best.worker, guess.task):
            ladder.append(second)
        return ladder

    def _unsure(self, worker: str, task: str) -> float:
        """How often a worker is right at this task where its answer is not accepted; certainly, where nothing tells."""
        found: float = (
            self.thresholds.data.get("unsure", {}).get(task, {}).get(worker, 1.0) if self.thresholds else 1.0
        )
        return found

    def _chosen(self, rungs: list[Rung], guess: Guess) -> Choice:
        names = [rung.name for rung in rungs]
        if guess.strange:
            new = ", ".join(dict.fromkeys(guess.strange[:5]))
            reason = f"like no task that the table knows ({new}): the broadest worker"
        else:
            reason = f"looks like {guess.task} ({guess.probability:.2f})"
        picked = " then ".join(names)
        out = (r.name for r in self.rungs if r.name not in names)
        options = (Option(picked), *(Option(name, rejected="of no use for it") for name in out))
        return Choice(picked, options, reason=reason, by=self.table.name if self.table else "")

    def _score(
        self, request: Request, rung: Rung, answer: Answer
    ) -> Generator[Step, Any, tuple[float | None, str]]:
        """The check's score of an answer and what it rests on; `None` when the check could not be made."""
        if self.check == "confidence":
            score = confidence(answer.logprobs)
            if score is None:
                return None, "no log-probabilities came with it"
            return score, f"least token probability {score:.2f}"
        if self.check == "agreement":
            return (yield from self._agreement(request, rung, answer))
        reply = yield from put(self._verifying(request, rung, answer))
        if reply.error is not None:
            return None, f"{reply.error.kind}: {reply.error.message}"
        said = verdict(reply.text)
        if said is None:
            return None, f"{self.verifier} said neither yes nor no"
        return float(said), f"{self.verifier} said {'yes' if said else 'no'}"

    def _verifying(self, request: Request, rung: Rung, answer: Answer) -> Ask:
        return Ask(
            self.verifier,
            self.wordings.verifying(request, answer),
            role="verifier",
            max_tokens=self.verifier_tokens,
            params={"temperature": 0},
            reason=f"checks the answer of {rung.name}",
        )

    def _agreement(
        self, request: Request, rung: Rung, answer: Answer
    ) -> Generator[Step, Any, tuple[float | None, str]]:
        warm = {**request.params, "temperature": self.temperature}
        plans = []
        for k in range(self.samples):
            branch = replace(request.branch(("agreement", rung.name, k)), params=warm)
            if isinstance(rung.policy, Solo):
                warm_solo = replace(
                    rung.policy, params=warm, seed="step", reason="a resample, to see whether it agrees"
                )
                plans.append(warm_solo.plan(branch))
            else:
                plans.append(rung.policy.plan(branch))
        answers: tuple[Answer, ...] = yield Fork(tuple(plans))
        came = [a for a in answers if a.error is None]
        if not came:
            error = answers[0].error
            return None, f"{error.kind}: {error.message}" if error else "no resample"
        agree = sum(same(a, answer) for a in came)
        return agree / len(came), f"{agree} of {len(came)} resamples agree"

    def _least(self, worker: str, task: str) -> float:
        if self.thresholds is None:
            return self.threshold
        data = self.thresholds.data
        found: Mapping[str, float] = data["workers"] | data.get("tasks", {}).get(task, {})
        return found.get(worker, self.threshold)

    @property
    def _by(self) -> str:
        source = f" with thresholds {self.thresholds.hash}" if self.thresholds else ""
        return f"{self.check}{source}"

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """The first rung for certain; each further one at even odds. The odds are a guess until outcomes are recorded."""
        total, chance = Outlook(), 1.0
        guess = self.table.guess(request.prompt) if self.table is not None and self.thresholds else None
        rungs = self._ladder(request, guess)
        for number, rung in enumerate(rungs):
            part = rung.policy.outlook(request, quotes)
            last = number == len(rungs) - 1
            if not last and self.check == "agreement":
                part = then(part, beside([part] * self.samples))
            if not last and self.check == "verifier":
                short, long = (
                    quotes(self._verifying(request, rung, answer))
                    for answer in (Answer(), longest(self.wordings))
                )
                part = then(part, of_ask(short, long))
            total = then(total, part if number == 0 else maybe(part, chance))
            chance *= 0.5
        return total


def _verdict(rung: Rung, dearer: Rung, score: float | None, least: float, reason: str, by: str) -> Note:
    accepted = score is not None and score >= least
    numbers = {} if score is None else {"score": round(score, 4), "threshold": round(least, 4)}
    escalate = f"escalate to {dearer.name}"
    accept = f"accept {rung.name}"
    options = (
        Option(
            accept, numbers, "" if accepted else reason if score is None else f"{score:.2f} < {least:.2f}"
        ),
        Option(escalate, rejected="the cheaper answer stands" if accepted else ""),
    )
    return Note(Choice(accept if accepted else escalate, options, reason=reason, by=by))
