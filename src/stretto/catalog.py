"""Names on the wire and the policies they stand for: every worker (solo), the built-in policies, and the owner's own.

Built in, for whatever pool there is:

| name | stands for |
|---|---|
| `route` | the owner's rules, then what a table has learned per kind of task, then the default or the cheapest worker |
| `cascade` | workers from cheap to dear, their own confidence between: the useful ones by the table, else up to three |
| `fuse` | up to four workers side by side (by the table, who together know most) and a vote weighed by confidence |
| `fallback` | every worker in the order of the configuration, the next one when one fails |
| `stretto` | the rules, then the configuration's first `sequential`; else `route` where a table was learned, else `cascade` |
| `stretto-ultra` | for now the same as `fuse` |
| `stretto/fusion`, `openrouter/fusion`, ... | a panel, an analyst and a writer, in OpenRouter Fusion's forms (`gateway.fusion`) |

Where workers do not tell how sure they are, `cascade` is the cheapest, checked by the dearest, and then the dearest; and in
`fuse` the dearest picks. Of a larger pool, `cascade` and `fuse` leave out workers without a known price, or with more than ten
times the median one.

A `[policy.NAME]` of the same name replaces a built-in one. Other packages offer policy types as entry points of the group
`stretto.policies`: a callable that takes the options of the table and a function from names to policies.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from stretto import artifacts
from stretto.artifacts import Artifact
from stretto.config import POLICY_KEYS, PolicySettings, RuleSettings, Settings, near
from stretto.errors import ConfigError, RequestError, UnknownModel
from stretto.gateway.wish import ALIASES, Wish
from stretto.policies.auto import Auto
from stretto.policies.cascade import THRESHOLDS_SCHEMA, Cascade, Rung
from stretto.policies.fallback import Fallback
from stretto.policies.fuse import Fuse, How
from stretto.policies.fusion import Fusion
from stretto.policies.judging import COMPACT, STANDARD, Wordings
from stretto.policies.route import TABLE_SCHEMA, Route, Rule, Table, Uniform, When
from stretto.policies.solo import Solo
from stretto.steps import Policy
from stretto.types import Card

__all__ = ["BUILT_IN", "ENTRY_POINTS", "Build", "Catalog", "Learned"]

BUILT_IN: Final = ("stretto", "stretto-ultra", "route", "cascade", "fuse", "fallback", *ALIASES)
"""Names on the wire that always mean something."""

ENTRY_POINTS: Final = "stretto.policies"
"""The group of entry points in which other packages offer policy types."""

Build = Callable[[Mapping[str, Any], Callable[[str], Policy]], Policy]
"""What such an entry point holds. Raises `ValueError` with what is wrong with the options."""

_RUNGS: Final = 3
_PANEL: Final = 4
_SAMPLES: Final = 3
_FUSED: Final = 3
_WINDOW: Final = 4
_SHORT: Final = 2048
_EXTREME: Final = 10


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned about this pool beforehand: the table that `route` reads, the thresholds that `cascade` reads."""

    table: Artifact | None = None
    thresholds: Artifact | None = None


class Catalog:
    """All names of a deployment. Everything is built at once, so that mistakes are known at the start.

    Raises `ConfigError` for a policy or rule that names what does not exist, or itself.
    """

    def __init__(self, cards: Sequence[Card], settings: Settings, learned: Learned = Learned()) -> None:
        self._policies: dict[str, Policy] = {}
        self._builder = builder = _Builder(tuple(cards), settings, learned)
        for name in (*(card.id for card in cards), *BUILT_IN, *settings.policies):
            self._policies[name] = builder.policy(name)
        self._models = (*cards, *(_card(name, self._policies[name], builder) for name in builder.names))

    def resolve(self, name: str) -> Policy:
        """The policy that a name on the wire stands for, the same object every time. Raises `UnknownModel`."""
        found = self._policies.get(name)
        if found is None:
            hint = near(name, self._policies) or "."
            raise UnknownModel(
                f'There is no model "{name}"{hint} GET /v1/models lists workers and policies, `stretto pool list` the workers.',
                param="model",
            )
        return found

    def fusion(self, wish: Wish, name: str) -> Policy | None:
        """The policy of a wish for fusion in a request to `name`; `None` where that is a worker that is called like an alias.

        Raises `RequestError` for a preset that does not exist.
        """
        if name in ALIASES and isinstance(self._policies[name], Solo):
            return None
        return self._builder.fusion(wish)

    def models(self) -> Sequence[Card]:
        """Every name as a card: the workers, then the policies, which carry the label `kind = "policy"`."""
        return self._models


class _Builder:
    """Builds each policy once, on demand, so that they may refer to each other in any order but not in a circle."""

    def __init__(self, cards: tuple[Card, ...], settings: Settings, learned: Learned) -> None:
        self.cards = cards
        self.settings = settings
        self.learned = learned
        self.workers = {card.id for card in cards}
        self.names = tuple(
            dict.fromkeys(name for name in (*BUILT_IN, *settings.policies) if name not in self.workers)
        )
        self._built: dict[str, Policy] = {}
        self._under_way: list[str] = []

    def policy(self, name: str, where: str = "") -> Policy:
        """The policy of a name; `where` is the place in the configuration that uses it."""
        if name in self._built:
            return self._built[name]
        if name in self._under_way:
            circle = " -> ".join([*self._under_way[self._under_way.index(name) :], name])
            raise ConfigError(f"{where}: policies refer to each other in a circle: {circle}")
        if name not in self.workers and name not in self.names:
            raise ConfigError(
                f'{where}: there is no worker or policy "{name}"{near(name, self._all) or "."} '
                f"There are: {', '.join(self._all)}"
            )
        self._under_way.append(name)
        self._built[name] = self._build(name)
        self._under_way.pop()
        return self._built[name]

    @property
    def _all(self) -> list[str]:
        return [*(card.id for card in self.cards), *self.names]

    def _build(self, name: str) -> Policy:
        if name in self.workers:
            return Solo(name)
        if (own := self.settings.policies.get(name)) is not None:
            return self._own(own)
        match name:
            case "route":
                return self._route(PolicySettings(name, "route"))
            case "cascade":
                return self._cascade(PolicySettings(name, "cascade"))
            case "fallback":
                return Fallback(tuple(card.id for card in _talkers(self.cards)))
            case "stretto":
                if (evidence := self._evidence()) is not None:
                    return evidence
                return self.policy("route" if self.learned.table is not None else "cascade")
            case "stretto-ultra":
                return self.policy("fuse")
        if name in ALIASES:
            preset, asks = ALIASES[name]
            return self.fusion(Wish(preset=preset, asks=asks))
        return self._fuse(PolicySettings(name, "fuse"))

    def _own(self, own: PolicySettings) -> Policy:
        match own.type:
            case "solo":
                return Solo(self._one(own, "worker"))
            case "route":
                return self._route(own)
            case "cascade":
                return self._cascade(own)
            case "fuse":
                return self._fuse(own)
            case "fallback":
                return Fallback(self._some(own, "workers"))
            case "sequential":
                return self._sequential(own)
            case "random":
                return Uniform(self._some(own, "among") if "among" in own.options else ())
        return self._third_party(own)

    def _route(self, own: PolicySettings) -> Policy:
        table = self.learned.table
        if "table" in own.options:
            table = self._artifact(own, "table", TABLE_SCHEMA)
        return Route(
            rules=tuple(self._rule(rule) for rule in self.settings.rules),
            table=None if table is None else Table(table),
            default=self._one(own, "default") if "default" in own.options else "",
            among=self._some(own, "among") if "among" in own.options else (),
        )

    def _sequential(self, own: PolicySettings) -> Policy:
        from stretto.policies.sequential import EVIDENCE_SCHEMA, Evidence, Sequential

        if "artifact" not in own.options:
            raise ConfigError(f"{own.where}: needs the key `artifact`, a file of `stretto train evidence`")
        found = self._artifact(own, "artifact", EVIDENCE_SCHEMA)
        try:
            evidence = Evidence(found)
        except ImportError:
            raise ConfigError(
                f"{own.where}: a sequential policy needs numpy: pip install 'stretto[evidence]'"
            ) from None
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{own.where}.artifact: is not what `stretto train evidence` writes: {error!r}"
            ) from None
        self._known(evidence.workers, f"{own.where}.artifact", policies=False)
        return Sequential(evidence, own.options.get("price"))

    def _evidence(self) -> Policy | None:
        """What `stretto` is where the configuration has a `sequential` policy, the first one of it."""
        name = next((n for n, own in self.settings.policies.items() if own.type == "sequential"), None)
        if name is None:
            return None
        rules = tuple(self._rule(rule) for rule in self.settings.rules)
        return Auto(rules, name, self.policy(name))

    def _rule(self, rule: RuleSettings) -> Rule:
        return Rule(When(**rule.when), rule.use, self.policy(rule.use, f"{rule.where}.use"))

    def _cascade(self, own: PolicySettings) -> Policy:
        options = dict(own.options)
        names: Sequence[str] = options.pop("rungs", ())
        where = f"{own.where}.rungs"
        adapts = False
        if not names:
            names = _ladder(self.cards)
            where = own.where or own.name
            usual = tuple(card.id for card in _usual(self.cards, _RUNGS))
            if self.learned.table and self.learned.thresholds and self._sure(usual) and not options:
                names, adapts = usual, True
            elif not self._sure(names[:-1]):
                names = (names[0], names[-1])[: len(names)]
        self._known(names, where)
        given: Any = options.pop("check", None)
        check: Literal["confidence", "agreement", "verifier"] = given or self._check(own, names)
        if check == "verifier":
            named = "verifier" in options or (given and not self._checker)
            options["verifier"] = self._one(own, "verifier") if named else self._checker or names[-1]
        thresholds = self.learned.thresholds if check == "confidence" else None
        table = self.learned.table if thresholds is not None else None
        if "thresholds" in options:
            del options["thresholds"]
            thresholds, table = self._artifact(own, "thresholds", THRESHOLDS_SCHEMA), None
        rungs = tuple(
            Rung.of_worker(name, check) if name in self.workers else Rung(name, self.policy(name, where))
            for name in names
        )
        known = None if table is None else Table(table)
        options["wordings"] = self._wordings(own, options.get("verifier"))
        return Cascade(rungs, check=check, thresholds=thresholds, table=known, adapts=adapts, **options)

    def _sure(self, names: Iterable[str]) -> bool:
        """Whether all these workers tell how sure they are."""
        return all("logprobs" in card.abilities for card in self.cards if card.id in names)

    def _check(
        self, own: PolicySettings, names: Sequence[str]
    ) -> Literal["confidence", "agreement", "verifier"]:
        """The check of a cascade that names none: the workers' own confidence, else the last rung as a verifier of the others.

        Agreement of resamples is left to those who ask for it: free prose never agrees, so that every rung would be paid.
        """
        if "verifier" in own.options:
            return "verifier"
        if self._sure(names[:-1]):
            return "confidence"
        return "verifier" if self._checker or names[-1] in self.workers else "agreement"

    @property
    def _checker(self) -> str:
        """The worker that was made to verify and judge (label `role`), or ""."""
        return next((card.id for card in self.cards if card.labels.get("role") == "checker"), "")

    def _fuse(self, own: PolicySettings) -> Policy:
        options = dict(own.options)
        panel = self._panel_of(own)
        for key in ("panel", "samples"):
            options.pop(key, None)
        for key in ("judge", "writer"):
            if key in options:
                options[key] = self._one(own, key)
        how = options.setdefault("how", self._how(own))
        if how in ("select", "pairs") and "judge" not in options and self._checker:
            options["judge"] = self._checker
        if how in ("select", "pairs") and "judge" not in options:
            raise ConfigError(f'{own.where}.how: "{how}" needs a `judge`, the worker that compares')
        if how == "synthesise" and "writer" not in options:
            raise ConfigError(f'{own.where}.how: "synthesise" needs a `writer`, the worker that writes')
        for key in ("sequential", "analysis"):
            if options.get(key) and "writer" not in options:
                raise ConfigError(f"{own.where}.{key}: is for a `writer`, and there is none")
        if how in ("vote", "rank") and "judge" in options and not options.get("analysis"):
            raise ConfigError(f'{own.where}.how: a "{how}" has no judge; leave `judge` out, or use "select"')
        if "quorum" in options and options["quorum"] > len(panel):
            raise ConfigError(f"{own.where}.quorum: is more than the {len(panel)} members of the panel")
        options["window"] = _WINDOW if options.pop("sequential", False) else 0
        options["wordings"] = self._wordings(own, options.get("judge") or options.get("writer"))
        if not own.options and not self._sure(panel):
            judge = self._checker or panel[0]
            options |= {"how": "select", "judge": judge}  # free prose gets no two equal votes
            options["wordings"] = self._wordings(own, judge)
        elif "how" not in own.options and "weigh" not in options and how == "vote":
            options["weigh"] = "confidence" if self._sure(panel) else "count"
        return Fuse(panel, **options)

    def _panel_of(self, own: PolicySettings) -> tuple[str, ...]:
        """The panel of a fuse, each member as often as it is sampled. `samples` alone samples the dearest usual worker."""
        samples = own.options.get("samples", 1)
        if "panel" in own.options:
            named = self._some(own, "panel")
        else:
            named = _panel(self.cards, self.learned.table)
            if "samples" in own.options:
                named = named[:1]
        return tuple(worker for worker in named for _ in range(samples))

    @staticmethod
    def _how(own: PolicySettings) -> How:
        """What a fuse does that does not say: with a writer it writes, with a judge alone the judge picks, else it votes."""
        if "writer" in own.options:
            return "synthesise"
        return "select" if "judge" in own.options else "vote"

    def _wordings(self, own: PolicySettings, reader: str | None) -> Wordings:
        """The texts for those who read answers: as configured, else compact ones where the reader's context is short."""
        if (named := own.options.get("wordings")) is not None:
            return _WORDINGS[named]
        card = next((card for card in self.cards if card.id == reader), None)
        short = card is not None and card.context is not None and card.context <= _SHORT
        return _WORDINGS["compact" if short else "standard"]

    def fusion(self, wish: Wish) -> Policy:
        """The policy of a request's wish for fusion; what it leaves open is the preset's. Raises `RequestError`."""
        base = self._preset(wish.preset)
        able = {card.id for card in _talkers(self.cards)}
        panel = wish.panel or base.panel
        first = next((worker for worker in (*panel, *base.panel) if worker in able), "")
        outer = (
            wish.outer
            if wish.outer in able
            else wish.analyst
            if wish.analyst in able
            else base.writer or first
        )
        if wish.alone:
            return Solo(outer)
        params: dict[str, Any] = {}
        if wish.temperature is not None:
            params["temperature"] = wish.temperature
        if wish.effort:
            params["reasoning_effort"] = wish.effort
        analyst = wish.analyst or base.judge or outer
        fuse = replace(
            base,
            panel=panel,
            how="synthesise",
            weigh="count",
            judge=analyst,
            writer=outer,
            analysis=True,
            quorum=None if base.quorum is None else min(base.quorum, len(panel)),
            analysis_tokens=wish.max_tokens or base.analysis_tokens,
            draft_tokens=wish.max_tokens or base.draft_tokens,
            draft_params=params,
            wordings=self._wordings(PolicySettings("fusion", "fuse"), analyst),
        )
        return Fusion(fuse, wish.asks, wish.tool_choice)

    def _preset(self, name: str) -> Fuse:
        """What a preset stands for: the owner's fuse of that name, else the dearest or the cheapest few of the usual workers."""
        if name in self.settings.policies:
            own = self.policy(name)
            if isinstance(own, Fuse):
                return own
        usual = [card.id for card in _usual(self.cards, _PANEL)]
        if name in ("", "general-high"):
            return Fuse(tuple(usual[: -_FUSED - 1 : -1]))
        if name in ("general-budget", "general-fast"):
            return Fuse(tuple(usual[:_FUSED]))
        fuses = [n for n, p in self.settings.policies.items() if p.type == "fuse"]
        known = ("general-high", "general-budget", "general-fast", *fuses)
        raise RequestError(
            f'There is no fusion preset "{name}"{near(name, known) or "."} There are: {", ".join(known)}.',
            param="preset",
        )

    def _third_party(self, own: PolicySettings) -> Policy:
        from importlib import metadata  # late: it loads the e-mail parser

        found = {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)}
        if own.type not in found:
            known = (*POLICY_KEYS, *found)
            raise ConfigError(
                f'{own.where}.type: there is no policy type "{own.type}"{near(own.type, known) or "."} '
                f"There are: {', '.join(known)}"
            )
        build: Build = found[own.type].load()
        try:
            return build(own.options, lambda name: self.policy(name, own.where))
        except ValueError as error:
            raise ConfigError(f"{own.where}: {error}") from error

    def _one(self, own: PolicySettings, key: str) -> str:
        """The worker that an option names."""
        if key not in own.options:
            raise ConfigError(f"{own.where}: needs the key `{key}`, the id of a worker")
        self._known((own.options[key],), f"{own.where}.{key}", policies=False)
        return str(own.options[key])

    def _some(self, own: PolicySettings, key: str) -> tuple[str, ...]:
        """The workers that an option lists."""
        if key not in own.options:
            raise ConfigError(f"{own.where}: needs the key `{key}`, a list of worker ids")
        self._known(own.options[key], f"{own.where}.{key}", policies=False)
        return tuple(own.options[key])

    def _known(self, names: Iterable[str], where: str, *, policies: bool = True) -> None:
        allowed = self._all if policies else [card.id for card in self.cards]
        kind = "worker or policy" if policies else "worker"
        for name in names:
            if name not in allowed:
                raise ConfigError(
                    f'{where}: there is no {kind} "{name}"{near(name, allowed) or "."} '
                    f"There are: {', '.join(allowed) or 'none'}"
                )

    def _artifact(self, own: PolicySettings, key: str, schema: str) -> Artifact:
        folder = self.settings.source.parent if self.settings.source else Path()
        return artifacts.read(folder / Path(own.options[key]).expanduser(), schema)


def _blend(card: Card) -> tuple[bool, float, str]:
    """Orders workers from cheap to dear; those without a known price come last."""
    return not card.priced, 0.75 * card.price.input + 0.25 * card.price.output, card.id


def _ladder(cards: Sequence[Card]) -> tuple[str, ...]:
    """The cheapest usual worker, the dearest, and one midway."""
    ids = [card.id for card in _usual(cards, _RUNGS)]
    if len(ids) <= _RUNGS:
        return tuple(ids)
    return ids[0], ids[len(ids) // 2], ids[-1]


def _panel(cards: Sequence[Card], table: Artifact | None) -> tuple[str, ...]:
    """A few usual workers, the dearest first (a tied vote goes to who stands first); the only one several times.

    The few are the dearest; where a table has been learned, those who together know most: one after the other who adds most
    to what those before are right about at best.
    """
    ids = [card.id for card in _usual(cards, _PANEL)]
    if len(ids) == 1:
        return tuple(ids * _SAMPLES)
    if table is None or len(ids) <= _PANEL:
        return tuple(ids[: -_PANEL - 1 : -1])
    known = Table(table)
    right = [known.estimates(task) for task in table.data["tasks"]]
    chosen = list[str]()
    while len(chosen) < _PANEL:
        free = [each for each in ids if each not in chosen]
        worth = {new: sum(max(of.get(w, 0.0) for w in (*chosen, new)) for of in right) for new in free}
        chosen.append(max(free, key=worth.__getitem__))
    return tuple(each for each in reversed(ids) if each in chosen)


def _usual(cards: Sequence[Card], enough: int) -> list[Card]:
    """The workers that built-in policies play, from cheap to dear.

    Where there are more than `enough`, those without a known price are left out, and those that cost more than `_EXTREME` times
    the median of the paid ones: nobody should meet their bill without having named them.
    """
    usual = sorted(_talkers(cards), key=_blend)
    if len(usual) > enough:
        usual = [card for card in usual if card.priced] or usual
    paid = [price for _, price, _ in map(_blend, usual) if price > 0]
    if len(usual) > enough and paid:
        usual = [card for card in usual if _blend(card)[1] <= _EXTREME * paid[len(paid) // 2]]
    return usual


def _talkers(cards: Sequence[Card]) -> list[Card]:
    """The workers that answer: whoever writes text, but for models with another job (label `role`)."""
    return [c for c in cards if "text" in c.abilities and c.labels.get("role", "solver") == "solver"]


def _card(name: str, policy: Policy, builder: _Builder) -> Card:
    own = builder.settings.policies.get(name)
    kind = own.type if own else type(policy).__name__.lower()
    return Card(
        name,
        labels={"kind": "policy", "type": kind},
        abilities=frozenset().union(*(card.abilities for card in builder.cards)),
        description=_ABOUT.get(name, "") if own is None else f"the owner's own, of type {kind}",
        priced=False,
    )


_WORDINGS: Final[Mapping[str, Wordings]] = {"standard": STANDARD, "compact": COMPACT}

_ABOUT: Final[Mapping[str, str]] = {
    "stretto": "rules, then the first `sequential` policy; without one: `route` if a table was learned, else `cascade`",
    "stretto-ultra": "for now: `fuse`",
    "route": "rules first, then what was learned per kind of task, then the default or the cheapest worker",
    "cascade": "cheap first, a check, then dearer",
    "fuse": "several workers side by side, and a vote",
    "stretto/fusion": "a panel, an analyst that compares, and a writer",
    "stretto/fusion-flash": "the same with cheap workers",
    "openrouter/fusion": "one worker that may call a panel, as OpenRouter's name has it",
    "openrouter/fusion-flash": "the same with cheap workers",
    "fallback": "one worker after the other until one answers",
}
