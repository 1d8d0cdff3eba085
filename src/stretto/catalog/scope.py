"""What the builders of policies share: the pool, the configuration, what was learned, and the names of everything."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from stretto import artifacts
from stretto.artifacts import Artifact
from stretto.catalog.learned import Learned
from stretto.config import PolicySettings, Settings, near
from stretto.errors import ConfigError
from stretto.steps import Policy
from stretto.types import Card

__all__ = ["Scope"]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a policy may refer to. `policy(name, where)` builds the one of a name; `names` are those that are no worker's."""

    cards: tuple[Card, ...]
    settings: Settings
    learned: Learned
    workers: frozenset[str]
    names: tuple[str, ...]
    policy: Callable[[str, str], Policy]

    @property
    def everything(self) -> list[str]:
        """Every name: the workers', then the policies'."""
        return [*(card.id for card in self.cards), *self.names]

    def one(self, own: PolicySettings, key: str) -> str:
        """The worker that an option names."""
        if key not in own.options:
            raise ConfigError(f"{own.where}: needs the key `{key}`, the id of a worker")
        self.known((own.options[key],), f"{own.where}.{key}", policies=False)
        return str(own.options[key])

    def some(self, own: PolicySettings, key: str) -> tuple[str, ...]:
        """The workers that an option lists."""
        if key not in own.options:
            raise ConfigError(f"{own.where}: needs the key `{key}`, a list of worker ids")
        self.known(own.options[key], f"{own.where}.{key}", policies=False)
        return tuple(own.options[key])

    def known(self, names: Iterable[str], where: str, *, policies: bool = True) -> None:
        """Raises `ConfigError` for a name that no worker (or policy) has."""
        allowed = self.everything if policies else [card.id for card in self.cards]
        kind = "worker or policy" if policies else "worker"
        for name in names:
            if name not in allowed:
                raise ConfigError(
                    f'{where}: there is no {kind} "{name}"{near(name, allowed) or "."} '
                    f"There are: {', '.join(allowed) or 'none'}"
                )

    def artifact(self, own: PolicySettings, key: str, schema: str) -> Artifact:
        """The file that an option names, relative to the configuration's folder. Raises `ConfigError`."""
        folder = self.settings.source.parent if self.settings.source else Path()
        return artifacts.read(folder / Path(own.options[key]).expanduser(), schema)
