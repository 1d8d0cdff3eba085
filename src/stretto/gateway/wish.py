"""What a request may wish of fusion, and the model names that are a wish already. Read by the gateway, met by the catalogue."""

from collections.abc import Mapping
from typing import Any, Final

from stretto.types import record

__all__ = ["ALIASES", "NAME", "Wish"]

NAME: Final = "stretto/fusion"
"""What a run is called whose request asks for fusion by plugin or tool."""

ALIASES: Final[Mapping[str, tuple[str, bool]]] = {
    NAME: ("", False),
    "stretto/fusion-flash": ("general-fast", False),
    "openrouter/fusion": ("", True),
    "openrouter/fusion-flash": ("general-fast", True),
}
"""Model names -> their preset, and whether the outer model decides."""

_PRESETS: Final = ("general-high", "general-budget", "general-fast")
"""Presets that need no policy of the owner's."""


@record
class Wish:
    """What a request wishes of fusion; empty fields are left to the deployment.

    `outer` decides and writes, `analyst` compares, `panel` answers. `asks`: the outer model decides, under `tool_choice`.
    `alone`: the outer model answers without the panel.
    """

    outer: str = ""
    analyst: str = ""
    panel: tuple[str, ...] = ()
    preset: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    effort: str = ""
    asks: bool = True
    alone: bool = False
    tool_choice: Any = None

    def needed(self, name: str) -> tuple[str, ...]:
        """Every name that the caller must be allowed to use, beside `name`, the model of the request.

        Workers and a preset of the owner's by their names. A panel that is left to the deployment is what `NAME` stands for.
        """
        names = [each for each in (self.analyst, *self.panel) if each]
        if self.preset and self.preset not in _PRESETS:
            names.append(self.preset)
        elif not self.panel and name not in ALIASES:
            names.append(NAME)
        return tuple(names)
