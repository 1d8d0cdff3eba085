"""Draw the receipt in README.md from a real run: `python docs/images/make.py`.

A cascade over the shipped models answers a sum; then `stretto runs show --texts` is drawn as it looks on a terminal.
"""

import asyncio
import io
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import MONOKAI

from stretto.app import open_world
from stretto.cli.tree import tree
from stretto.config import PoolSettings, Settings
from stretto.types import Message, Request

QUESTION = "How much is 17 plus 25?"
COLUMNS = 104

# rich's own frame names fonts on a foreign server; a picture that loads nothing looks the same everywhere
FRAME = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>A receipt of Stretto</title>
<style>
.{unique_id}-matrix {{ font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: {char_height}px;
  line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


async def receipt(data: Path) -> Mapping[str, Any]:
    """The receipt of one cascade run on the shipped models, recorded in `data`; a first run brings the models up."""
    settings = Settings(pool=PoolSettings(discover=False, sparring=True))
    settings = replace(settings, server=replace(settings.server, data=data))
    async with open_world(settings) as world:
        policy = world.catalog.resolve("cascade")
        request = Request(messages=(Message("user", QUESTION),), model="cascade", params={"temperature": 0})
        for _ in range(2):
            run = await world.engine.run(policy, request, name="cascade")
        return world.reader.receipt(run.id, include_content=True)


def draw(told: Mapping[str, Any]) -> str:
    """The receipt as SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print("$ stretto runs show --texts", style="dim")
    console.print(tree(told))
    svg = console.export_svg(title="stretto runs show", theme=MONOKAI, code_format=FRAME, unique_id="receipt")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def main() -> None:
    """Write receipt.svg beside this file."""
    with tempfile.TemporaryDirectory() as folder:
        told = asyncio.run(receipt(Path(folder)))
    Path(__file__).with_name("receipt.svg").write_text(draw(told), encoding="utf-8")


if __name__ == "__main__":
    main()
