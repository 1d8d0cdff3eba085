"""Every name of a deployment and its policy, built once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from stretto.catalog.deciding import route, sequential, stretto
from stretto.catalog.learned import Learned
from stretto.catalog.orchestrators import conductor, trinity, ultra, unwrapped
from stretto.catalog.panels import cascade, fuse, fusion
from stretto.catalog.scope import Scope
from stretto.catalog.usual import talkers
from stretto.config import POLICY_KEYS, PolicySettings, Settings, near
from stretto.errors import ConfigError, UnknownModel
from stretto.gateway.wish import ALIASES, Wish
from stretto.policies.fallback import Fallback
from stretto.policies.masked import Masked
from stretto.policies.route import Uniform
from stretto.policies.solo import Solo
from stretto.steps import Policy
from stretto.types import Card

__all__ = ["BUILT_IN", "ENTRY_POINTS", "Build", "Catalog"]

BUILT_IN: Final = (
    "stretto",
    "stretto-ultra",
    "route",
    "cascade",
    "fuse",
    "trinity",
    "conductor",
    "fallback",
    *ALIASES,
)
"""Names on the wire that mean something in every deployment, but for `trinity`, which needs an artefact."""

ENTRY_POINTS: Final = "stretto.policies"
"""The group of entry points in which other packages offer policy types."""

Build = Callable[[Mapping[str, Any], Callable[[str], Policy]], Policy]
"""What such an entry point holds. Raises `ValueError` with what is wrong with the options."""


_NOTHING: Final = Learned()


class Catalog:
    """All names of a deployment. Everything is built at once, so that mistakes are known at the start.

    Raises `ConfigError` for a policy or rule that names what does not exist, or itself. `masks` tells at any time who is left out
    for now, and why.
    """

    def __init__(
        self,
        cards: Sequence[Card],
        settings: Settings,
        learned: Learned = _NOTHING,
        masks: Callable[[], tuple[tuple[str, str], ...]] = tuple,
    ) -> None:
        self._masks = masks
        self._cards = tuple(cards)
        self._settings = settings
        self._build(learned)

    def renew(self, learned: Learned) -> None:
        """Go by other artefacts from now on; runs under way keep theirs. Raises `ConfigError`, and then all stays as it was."""
        self._build(learned)

    def _build(self, learned: Learned) -> None:
        builder = _Builder(self._cards, self._settings, learned)
        names = (*(card.id for card in self._cards), *builder.scope.names)
        policies = {name: builder.policy(name) for name in names}
        described = (_card(name, policies[name], builder.scope) for name in builder.scope.names)
        models = (*self._cards, *described)
        self._masked: dict[str, Masked] = {}
        self._policies: dict[str, Policy] = policies
        self._builder, self._models = builder, models

    def resolve(self, name: str) -> Policy:
        """The policy that a name on the wire stands for, the same object while the same are left out. Raises `UnknownModel`."""
        found = self._policies.get(name)
        if found is None and name == "trinity":
            raise UnknownModel(
                'There is no model "trinity": it needs what `stretto train trinity` writes, as DATA/artifacts/trinity.json '
                "or named by a policy of type trinity.",
                param="model",
            )
        if found is None:
            hint = near(name, self._policies) or "."
            raise UnknownModel(
                f'There is no model "{name}"{hint} GET /v1/models lists workers and policies, `stretto pool list` the workers.',
                param="model",
            )
        why = self._masks()
        return self._without(name, found, why) if why and not isinstance(found, Solo) else found

    def _without(self, name: str, policy: Policy, why: tuple[tuple[str, str], ...]) -> Policy:
        """A policy that leaves out whom the drift monitor accuses; a worker that is asked by its name still answers."""
        known = self._masked.get(name)
        if known is None or known.why != why or known.policy is not policy:
            known = self._masked[name] = Masked(policy, why)
        return known

    def fusion(self, wish: Wish, name: str) -> Policy | None:
        """The policy of a wish for fusion in a request to `name`; `None` where that is a worker that is called like an alias.

        Raises `RequestError` for a preset that does not exist.
        """
        if name in ALIASES and isinstance(self._policies[name], Solo):
            return None
        return fusion(self._builder.scope, wish)

    def models(self) -> Sequence[Card]:
        """Every name as a card: the workers, then the policies, which carry the label `kind = "policy"`."""
        return self._models


class _Builder:
    """Builds each policy once, on demand, so that they may refer to each other in any order but not in a circle."""

    def __init__(self, cards: tuple[Card, ...], settings: Settings, learned: Learned) -> None:
        workers = frozenset(card.id for card in cards)
        usual = [name for name in BUILT_IN if name != "trinity" or learned.trinity is not None]
        names = tuple(dict.fromkeys(name for name in (*usual, *settings.policies) if name not in workers))
        self.scope = Scope(cards, settings, learned, workers, names, self.policy)
        self._built: dict[str, Policy] = {}
        self._under_way: list[str] = []

    def policy(self, name: str, where: str = "") -> Policy:
        """The policy of a name; `where` is the place in the configuration that uses it."""
        if name in self._built:
            return self._built[name]
        if name in self._under_way:
            circle = " -> ".join([*self._under_way[self._under_way.index(name) :], name])
            raise ConfigError(f"{where}: policies refer to each other in a circle: {circle}")
        self.scope.known((name,), where)
        self._under_way.append(name)
        self._built[name] = self._build(name)
        self._under_way.pop()
        return self._built[name]

    def _build(self, name: str) -> Policy:
        scope = self.scope
        if name in scope.workers:
            return Solo(name)
        if (own := scope.settings.policies.get(name)) is not None:
            return self._own(own)
        match name:
            case "route":
                return route(scope, PolicySettings(name, "route"))
            case "cascade":
                return cascade(scope, PolicySettings(name, "cascade"))
            case "fallback":
                return Fallback(tuple(card.id for card in talkers(scope.cards)))
            case "stretto":
                return stretto(scope)
            case "trinity":
                return trinity(scope, PolicySettings(name, "trinity"))
            case "conductor":
                return conductor(scope, PolicySettings(name, "conductor"))
            case "stretto-ultra":
                return ultra(scope, PolicySettings(name, "ultra"))
        if name in ALIASES:
            preset, asks = ALIASES[name]
            return fusion(scope, Wish(preset=preset, asks=asks))
        return fuse(scope, PolicySettings(name, "fuse"))

    def _own(self, own: PolicySettings) -> Policy:
        scope = self.scope
        match own.type:
            case "solo":
                return Solo(scope.one(own, "worker"))
            case "route":
                return route(scope, own)
            case "cascade":
                return cascade(scope, own)
            case "fuse":
                return fuse(scope, own)
            case "fallback":
                return Fallback(scope.some(own, "workers"))
            case "sequential":
                return sequential(scope, own)
            case "trinity":
                return trinity(scope, own)
            case "conductor":
                return conductor(scope, own)
            case "ultra":
                return ultra(scope, own)
            case "random":
                return Uniform(scope.some(own, "among") if "among" in own.options else ())
        return self._third_party(own)

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


def _card(name: str, policy: Policy, scope: Scope) -> Card:
    own = scope.settings.policies.get(name)
    kind = own.type if own else type(unwrapped(policy)).__name__.lower()
    return Card(
        name,
        labels={"kind": "policy", "type": kind},
        abilities=frozenset().union(*(card.abilities for card in scope.cards)),
        description=_ABOUT.get(name, "") if own is None else f"the owner's own, of type {kind}",
        priced=False,
    )


_ABOUT: Final[Mapping[str, str]] = {
    "stretto": "rules, then the evidence that was learned about this pool, else a prior and checks",
    "stretto-ultra": "the best answer within the limits: a checked workflow, further answers where it does not pass",
    "route": "rules first, then what was learned per kind of task, then the default or the cheapest worker",
    "cascade": "cheap first, a check, then dearer",
    "fuse": "several workers side by side, and a vote",
    "trinity": "a small model's state picks worker and role turn by turn: thinker, worker, verifier",
    "conductor": "a planner writes a workflow of sub-tasks: who does them, and who sees whose reply",
    "stretto/fusion": "a panel, an analyst that compares, and a writer",
    "stretto/fusion-flash": "the same with cheap workers",
    "openrouter/fusion": "one worker that may call a panel, as OpenRouter's name has it",
    "openrouter/fusion-flash": "the same with cheap workers",
    "fallback": "one worker after the other until one answers",
}
