"""Route: pick one worker (or policy) per prompt. The owner's rules come first, then what a table has learned per kind of task."""

import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from stretto.artifacts import Artifact
from stretto.policies.evidence.success import Success
from stretto.policies.exploring import draw, odds
from stretto.policies.outlooks import of_ask, one_of
from stretto.policies.solo import Solo
from stretto.steps import Ask, Choice, Note, Option, Outlook, Plan, Policy, Quotes
from stretto.types import Answer, Card, Failure, Request

__all__ = [
    "PRICE_WEIGHT",
    "TABLE_SCHEMA",
    "Chance",
    "Guess",
    "Judged",
    "Known",
    "Route",
    "Rule",
    "Table",
    "Uniform",
    "When",
    "blend",
    "features",
    "order_words",
    "words",
]

TABLE_SCHEMA = "stretto.route-table/1"

_LIST = re.compile(r"\b\w+(?:, *\w+)+")
"""Tried once a word (`\\b`): from every letter of a long blob it would take the square of its length."""

_TELLING = 6.0
"""So much likelier (in log-odds, 400 times) must all foreign words together be at a task nobody is good at to speak for it.
Chosen on calibration problems: 244 of 299 that need a plan and look like one task are beyond it, and none of 5,800 single ones.
"""

PRICE_WEIGHT = 0.1
"""At dial 0, being the dearest of the pool weighs as much as this much expected success; at dial 1 money does not count."""


def words(text: str) -> list[str]:
    """The cheap text feature: the lower-case words of a prompt, numbers folded into `0`."""
    return ["0" if w[0].isdigit() else w for w in re.findall(r"[a-z]+|[0-9]+", text.casefold())]


def features(text: str) -> list[str]:
    """What a table reads of a prompt: its words, and `,` where it holds a list or `.` where it holds none."""
    return [*words(text), "," if _LIST.search(text) else "."]


def order_words(prompt: str) -> list[str]:
    """The words of a prompt that say what to do: those of its last line, without what stands in a comma-separated list."""
    return words(_LIST.sub(" ", prompt.strip().rpartition("\n")[2]))


def _first(prompt: str) -> list[str]:
    """Some words for what to do, where they are quickly found: those before the first comma of the last line."""
    last = prompt.strip().rpartition("\n")[2][:80]
    return words(last.partition(",")[0].rpartition(" ")[0])


@dataclass(frozen=True, slots=True)
class Guess:
    """What a table takes a prompt for: its likeliest `task`, with what probability; and words that are `strange` for it.

    Where some are, the prompt is like nothing that the table knows: its probabilities are of the known tasks only.
    """

    task: str
    probability: float
    strange: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What a table knows of a request: its `guess`, and how often each worker that may be used is `right` at that, the best one
    first and of equals the cheaper. Of a strange prompt nobody's record says anything.

    `foreign`: words of the prompt that other tasks have and its own never had. Such a prompt may ask for more than its task.
    """

    guess: Guess
    right: Mapping[str, float]
    foreign: tuple[str, ...] = ()

    def alone(self, least: float) -> str:
        """Why the best worker does alone, being right `least` of the time; "" where it is not, or nobody is known."""
        worker = next(iter(self.right), "")
        if not worker or self.right[worker] < least:
            return ""
        return f"{worker} alone is right {self.right[worker]:.0%} of the time at {self.guess.task}"


@dataclass(frozen=True, slots=True)
class Chance:
    """How often a worker is right at a prompt, as far as is known; `doubt`: one standard deviation of that, 0 where not told.

    `new`: it came later, and little is known of it (`stretto train newcomer`).
    """

    right: float
    doubt: float = 0.0
    new: bool = False

    @property
    def sure(self) -> float:
        """What a choice goes by: of a newcomer half a deviation less, since a lucky one would be asked everywhere."""
        return self.right - 0.5 * self.doubt if self.new else self.right

    def told(self) -> dict[str, float]:
        """The numbers, for the record."""
        found = {"success": round(self.right, 4)}
        return {**found, "deviation": round(self.doubt, 4)} if self.doubt else found

    def __str__(self) -> str:
        doubt = f" give or take {100 * self.doubt:.0f}" if self.doubt else ""
        new = "; a newcomer" if self.new else ""
        return f"right {self.right:.0%}{doubt} of the time{new}"


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of a prompt: each worker's chance, why in words (to be followed by how often one is right), whether it is
    strange.
    """

    chances: Mapping[str, Chance]
    why: str
    strange: bool = False


@dataclass(frozen=True)
class Table:
    """Who is good at what: a naive Bayes classifier of prompts into tasks over `words`, and per task each worker's record.

    From an artefact of schema `TABLE_SCHEMA`, data: `tasks` {task: {prior, workers: {id: [successes, trials]}}},
    `words` {word: {task: log-probability}}, `unseen` {task: log-probability}. A task may hold `strangers`: how many words
    that are not in `words` its prompts have at most beside their lists. A prompt with more of them is none of the task's.

    With `success` (`evidence.success.Success`) an estimator that reads the prompt tells the chances, in the place of the record.
    """

    artifact: Artifact

    def __post_init__(self) -> None:
        if self.artifact.schema != TABLE_SCHEMA:
            raise ValueError(f"a route table needs schema {TABLE_SCHEMA}, not {self.artifact.schema}")

    @cached_property
    def name(self) -> str:
        """What a recorded choice names. (Kept: the hash of a large table takes longer than the choice.)"""
        return f"route-table {self.artifact.hash}"

    @cached_property
    def success(self) -> Success | None:
        """The estimator, if this was learned with one."""
        found = self.artifact.data.get("success")
        return None if found is None else Success.of(found)

    def guess(self, prompt: str) -> Guess:
        """What this prompt looks like. Words that the table has not seen say nothing about which task it is."""
        data = self.artifact.data
        known, unseen = data["words"], data["unseen"]
        scores = {task: math.log(entry["prior"]) for task, entry in data["tasks"].items()}
        said = 0
        for word, times in Counter(features(prompt)).items():
            if (by_task := known.get(word)) is not None:
                said += times
                for task, found in by_task.items():
                    scores[task] += times * (found - unseen[task])
        for task in scores:
            scores[task] += said * unseen[task]
        best = max(scores, key=lambda t: (scores[t], t))
        probability = 1.0 / sum(math.exp(s - scores[best]) for s in scores.values())
        return Guess(best, probability, self.strange(prompt, data["tasks"][best].get("strangers")))

    def strange(self, prompt: str, most: int | None = None) -> tuple[str, ...]:
        """The words for what to do that the table has not seen, if they are all of them, or more than `most`; else ()."""
        known = self.artifact.data["words"]
        if most is None and any(word in known for word in _first(prompt)):
            return ()  # as is nearly always the case, and soon found
        order = order_words(prompt)
        found = tuple(word for word in order if word not in known)
        return found if found == tuple(order) or (most is not None and len(found) > most) else ()

    def judged(self, prompt: str) -> "Judged":
        """How likely each known worker is to be right at a prompt; at one like none of the table's, as at its middling task."""
        if self.success is None:
            guess = self.guess(prompt)
            if not guess.strange:
                right = {worker: Chance(p) for worker, p in self.estimates(guess.task).items()}
                return Judged(right, f"looks like {guess.task} ({guess.probability:.2f}), where it is")
            strange = guess.strange
        elif not (strange := self.strange(prompt)):
            new = {profile.worker for profile in self.success.newcomers}
            found = self.success.chances(prompt).items()
            right = {worker: Chance(p, doubt, worker in new) for worker, (p, doubt) in found}
            return Judged(right, f"at prompts like this ({self.success.by})")
        said = ", ".join(dict.fromkeys(strange[:5]))
        why = f"like no task that the table knows ({said}): the broadest worker, at its middling task"
        return Judged({worker: Chance(p) for worker, p in self.breadth().items()}, why, True)

    def estimates(self, task: str) -> Mapping[str, float]:
        """Each worker's expected success at a task (Laplace: one success and one failure added)."""
        record = self.artifact.data["tasks"][task]["workers"]
        return {worker: (good + 1) / (tried + 2) for worker, (good, tried) in record.items()}

    def known(self, request: Request, among: tuple[str, ...] = ()) -> Known:
        """What the record says of a request's prompt, and of who may be used for it (`among` empty: whoever writes text)."""
        guess = self.guess(request.prompt)
        right = {} if guess.strange else self.estimates(guess.task)
        cards = [card for card in _among(request, among) if card.id in right]
        cards.sort(key=lambda card: (-right[card.id], blend(card), card.id))
        seen, never = self.artifact.data["words"], self.artifact.data["unseen"][guess.task]
        told = dict.fromkeys(words(request.prompt))
        foreign = tuple(word for word in told if word in seen and seen[word].get(guess.task, never) <= never)
        return Known(guess, {card.id: right[card.id] for card in cards}, foreign)

    def beyond(self, request: Request, known: Known, least: float) -> tuple[str, ...]:
        """The foreign words of a request that speak for a task at which nobody eligible is right `least` of the time, or ().

        They do if such a task says them far more often than the task that the prompt looks like, which never did, and one of them
        more often than any task that somebody is good at: else they may be another wording of the same task.
        """
        if not known.foreign:
            return ()
        data, cards = self.artifact.data, _among(request, ())
        best = {task: self._best(task, cards) for task in data["tasks"]}

        def said(word: str, task: str) -> float:
            return float(data["words"][word].get(task, data["unseen"][task]))

        own = data["unseen"][known.guess.task]
        good = [task for task in best if best[task] >= least]
        for task in (task for task in best if best[task] < least):
            odds = {word: said(word, task) - own for word in known.foreign}
            if sum(odds.values()) > _TELLING and any(
                all(said(word, task) > said(word, other) for other in good) for word in odds
            ):
                return tuple(word for word in odds if odds[word] > 0)
        return ()

    def _best(self, task: str, cards: list[Card]) -> float:
        right = self.estimates(task)
        return max((right.get(card.id, 0.0) for card in cards), default=0.0)

    def breadth(self) -> Mapping[str, float]:
        """Each worker's median success over the tasks: how broad it is, whatever it is best at."""
        every = [self.estimates(task) for task in self.artifact.data["tasks"]]
        workers = dict.fromkeys(worker for estimates in every for worker in estimates)
        return {w: statistics.median(estimates.get(w, 0.0) for estimates in every) for w in workers}


@dataclass(frozen=True, slots=True)
class When:
    """A rule's condition; every part that is set must hold. `contains`: any of these, in any case, in the last user message."""

    contains: tuple[str, ...] = ()
    matches: str = ""
    max_tokens_below: int | None = None
    longer_than: int | None = None
    tools: bool | None = None

    def holds(self, request: Request) -> str:
        """Why it holds, or ""."""
        prompt, why = request.prompt, []
        if self.contains:
            low = prompt.casefold()
            found = next((w for w in self.contains if w.casefold() in low), None)
            if found is None:
                return ""
            why.append(f"contains {found!r}")
        if self.matches:
            if not re.search(self.matches, prompt):
                return ""
            why.append(f"matches /{self.matches}/")
        if self.max_tokens_below is not None:
            if request.max_tokens is None or request.max_tokens >= self.max_tokens_below:
                return ""
            why.append(f"max_tokens below {self.max_tokens_below}")
        if self.longer_than is not None:
            if len(prompt) <= self.longer_than:
                return ""
            why.append(f"longer than {self.longer_than} characters")
        if self.tools is not None:
            if bool(request.tools) != self.tools:
                return ""
            why.append("has tools" if self.tools else "has no tools")
        return " and ".join(why) or "always"


@dataclass(frozen=True, slots=True)
class Rule:
    """When it holds, `policy` (known as `use` on the wire) answers."""

    when: When
    use: str
    policy: Policy


@dataclass(frozen=True, slots=True)
class Route:
    """Rules first, in order; then the table, under the request's dial; then `default`, or the cheapest worker there is.

    A prompt that is like no task of the table goes to `default`, else to the broadest worker under the dial, and the reason
    says so. `among` limits the table's choice (empty: everyone in the pool who writes text). With chance `explore` another of
    these is asked instead; never where a rule holds.
    """

    CODE: ClassVar[str] = "4"
    rules: tuple[Rule, ...] = ()
    table: Table | None = None
    default: str = ""
    among: tuple[str, ...] = ()
    explore: float = 0.0

    def plan(self, request: Request) -> Plan:
        """One recorded choice, then the chosen policy's plan, or a tail ask to the chosen worker."""
        passed: list[Option] = []
        if (ruled := self._ruled(request, passed)) is not None:
            rule, why = ruled
            yield Note(Choice(rule.use, (*passed, Option(rule.use)), reason=why, by="rules"))
            return (yield from rule.policy.plan(request))
        choice = self._choose(request, passed)
        if choice is None:
            return Answer(
                error=Failure(
                    "denied", f"none of {', '.join(self.among) or 'the pool'} may be used for this request"
                )
            )
        if self.explore:
            choice = self._drawn(request, choice)
        yield Note(choice)
        return Ask(choice.picked, speaks=True, reason=choice.reason)

    def _worths(self, request: Request, choice: Choice) -> dict[str, float]:
        """What may be explored, with its worth; 0 where nothing is known, which leaves it the half that goes by lot."""
        may = {card.id for card in _among(request, self.among)}
        return {o.name: o.estimates.get("worth", 0.0) for o in choice.options if o.name in may}

    def _drawn(self, request: Request, choice: Choice) -> Choice:
        """The choice after the lot, with every option's chance."""
        lot = draw(request, choice.picked, self._worths(request, choice), self.explore)
        options = []
        for option in choice.options:
            chance = {"probability": lot.chances[option.name]} if option.name in lot.chances else {}
            passed = option.rejected or ("not drawn" if option.name in lot.chances else "")
            numbers = {**option.estimates, **chance}
            options.append(Option(option.name, numbers, "" if option.name == lot.picked else passed))
        reason = "exploring" if lot.explored else choice.reason
        return Choice(lot.picked, tuple(options), lot.chances[lot.picked], reason, choice.by)

    def _ruled(self, request: Request, passed: list[Option]) -> tuple[Rule, str] | None:
        """The first rule that holds and can be followed, and why; adds to `passed` those that hold and cannot."""
        for number, rule in enumerate(self.rules, 1):
            why = rule.when.holds(request)
            if why and isinstance(rule.policy, Solo) and request.card(rule.policy.worker) is None:
                why = f"rule {number} holds, but {rule.policy.worker} is not eligible"
                passed.append(Option(rule.use, rejected=why))
            elif why:
                return rule, f"rule {number}: {why}"
        return None

    def _choose(self, request: Request, passed: list[Option]) -> Choice | None:
        cards = _among(request, self.among)
        if not cards:
            return None
        if self.table is None:
            return self._without_table(request, cards, passed)
        judged = self.table.judged(request.prompt)
        if judged.strange and self.default:
            return self._without_table(request, cards, passed)
        chances = judged.chances
        known = [c for c in cards if c.id in chances]
        if not known:
            return self._without_table(request, cards, passed)
        dearest = max(blend(c) for c in known) or 1.0
        weight = PRICE_WEIGHT * (1 - request.dial)
        worth = {c.id: chances[c.id].sure - weight * blend(c) / dearest for c in known}
        picked = max(known, key=lambda c: (worth[c.id], -blend(c), c.id)).id
        options = list(passed)
        for card in cards:
            if card.id not in worth:
                options.append(Option(card.id, rejected="the table knows nothing of this worker"))
                continue
            rejected = "" if card.id == picked else f"worth {worth[card.id]:.3f} < {worth[picked]:.3f}"
            numbers = {**chances[card.id].told(), "worth": round(worth[card.id], 4)}
            options.append(Option(card.id, numbers, rejected))
        reason = f"{judged.why} {chances[picked]}"
        return Choice(picked, tuple(options), reason=reason, by=self.table.name)

    def _without_table(self, request: Request, cards: list[Card], passed: list[Option]) -> Choice:
        named = next((c for c in cards if c.id == self.default), None)
        picked = named or min(cards, key=lambda c: (not c.priced, blend(c), c.id))
        reason = (
            "the default worker" if named else "the cheapest worker: no rule holds and nothing is learned yet"
        )
        others = (Option(c.id, rejected=reason) for c in cards if c is not picked)
        return Choice(picked.id, (*passed, Option(picked.id), *others), reason=reason, by="default")

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """The chosen worker's, since the choice is free; with `explore`, of whoever may be drawn."""
        if (ruled := self._ruled(request, [])) is not None:
            return ruled[0].policy.outlook(request, quotes)
        choice = self._choose(request, [])
        if choice is None:
            return Outlook()
        if self.table is not None and self.table.success is not None:
            quotes = self.table.success.quoting(request, quotes)
        if not self.explore:
            return of_ask(quotes(Ask(choice.picked, speaks=True)))
        found = odds(request, choice.picked, self._worths(request, choice), self.explore)
        return one_of((chance, of_ask(quotes(Ask(name, speaks=True)))) for name, chance in found.items())


@dataclass(frozen=True, slots=True)
class Uniform:
    """A worker by lot, each with the same chance: the control that every router must beat. `among` empty: the whole pool."""

    CODE: ClassVar[str] = "1"
    among: tuple[str, ...] = field(default=())

    def _cards(self, request: Request) -> list[Card]:
        return _among(request, self.among)

    def plan(self, request: Request) -> Plan:
        """One recorded draw from the request's seed, then a tail ask."""
        cards = self._cards(request)
        if not cards:
            return Answer(
                error=Failure(
                    "denied", f"none of {', '.join(self.among) or 'the pool'} may be used for this request"
                )
            )
        picked = request.random("uniform").choice(cards).id
        chance = 1 / len(cards)
        options = tuple(Option(c.id, {"probability": chance}) for c in cards)
        yield Note(Choice(picked, options, chance, "drawn by lot", "uniform"))
        return Ask(picked, speaks=True, reason="drawn by lot")

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """The average of the workers."""
        asks = [of_ask(quotes(Ask(c.id, speaks=True))) for c in self._cards(request)]
        return one_of((1 / len(asks), ask) for ask in asks)


def _among(request: Request, named: tuple[str, ...]) -> list[Card]:
    """The workers to choose from: those named, or everyone who writes text and has no other job (label `role`)."""
    if named:
        return [c for c in request.pool if c.id in named]
    return [c for c in request.pool if "text" in c.abilities and c.labels.get("role", "solver") == "solver"]


def blend(card: Card) -> float:
    """One price a token for comparing workers: input and output tokens weighed 3 to 1, as in ordinary chat traffic."""
    return 0.75 * card.price.input + 0.25 * card.price.output
