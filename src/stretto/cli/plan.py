"""`stretto plan`: what a request would do and cost. Nothing is called."""

import asyncio
from pathlib import Path
from typing import Any

import click

from stretto.cli.options import folder_options, json_option, request_options
from stretto.cli.terminal import console, dump, duration, money, table
from stretto.config import load
from stretto.engine.run import Preview
from stretto.steps import Span
from stretto.types import PICO, Request, usd

__all__ = ["plan"]


@click.command(
    epilog="\b\nExamples:\n"
    '  stretto plan "Spell the word planet backward."\n'
    '  stretto plan -m fuse --require region=eu --json "How much is 17 plus 25?"\n'
)
@click.argument("text")
@request_options
@folder_options
@json_option
def plan(text: str, request: Request, config: Path | None, data: Path | None, as_json: bool) -> None:
    """Show who may play, what would be chosen and asked first, and what it might take. Nothing is called or recorded."""
    seen = asyncio.run(_preview(request, config, data))
    if as_json:
        dump(_plain(request.model, seen))
    else:
        _draw(request.model, seen)


async def _preview(request: Request, config: Path | None, data: Path | None) -> Preview:
    from stretto.app import open_world

    async with open_world(load(config, data=data)) as world:
        return world.engine.preview(world.catalog.resolve(request.model), request)


def _draw(name: str, seen: Preview) -> None:
    out = console()
    out.print(f"{name}: {seen.version}" + (f", behind {', '.join(seen.around)}" if seen.around else ""))
    table(
        ("may play", "in / out per 1M tokens", "labels"),
        (
            (
                card.id,
                f"{money(card.price.input * 1_000_000)} / {money(card.price.output * 1_000_000)}"
                if card.priced
                else "unknown",
                ", ".join(f"{label}={value}" for label, value in card.labels.items()),
            )
            for card in seen.eligible
        ),
    )
    for denied in seen.denied:
        out.print(f"not {denied.worker}: {denied.reason}")
    for choice in seen.choices:
        out.print(
            f"would choose {choice.picked}: {choice.reason}" + (f"  [{choice.by}]" if choice.by else "")
        )
        for option in choice.options:
            if option.rejected:
                out.print(f"  ✗ {option.name}: {option.rejected}")
    for ask in seen.first:
        out.print(f"would ask {ask.worker} as {ask.role}" + (f": {ask.reason}" if ask.reason else ""))
    outlook = seen.outlook
    table(
        ("outlook", "least", "expected", "most"),
        (
            ("calls", *(f"{value:g}" for value in _three(outlook.calls))),
            ("money", *(money(round(value)) for value in _three(outlook.usd))),
            ("time", *(duration(value) for value in _three(outlook.seconds))),
        ),
        right=("least", "expected", "most"),
    )


def _three(span: Span) -> tuple[float, float, float]:
    return span.least, span.expected, span.most


def _plain(name: str, seen: Preview) -> dict[str, Any]:
    def span(found: Span, unit: int = 1) -> dict[str, float]:
        return {"least": found.least / unit, "expected": found.expected / unit, "most": found.most / unit}

    limits = seen.limits
    return {
        "policy": name,
        "type": seen.policy,
        "around": list(seen.around),
        "version": seen.version,
        "candidates": [{"id": card.id, "labels": dict(card.labels)} for card in seen.eligible],
        "denied": [{"worker": denied.worker, "reason": denied.reason} for denied in seen.denied],
        "choices": [
            {
                "picked": choice.picked,
                "probability": choice.probability,
                "reason": choice.reason,
                "by": choice.by,
                "options": [
                    {"name": o.name, "estimates": dict(o.estimates), "rejected": o.rejected}
                    for o in choice.options
                ],
            }
            for choice in seen.choices
        ],
        "first": [{"worker": ask.worker, "role": ask.role, "reason": ask.reason} for ask in seen.first],
        "outlook": {
            "calls": span(seen.outlook.calls),
            "usd": span(seen.outlook.usd, PICO),
            "seconds": span(seen.outlook.seconds),
        },
        "limits": {
            "usd": None if limits.usd is None else usd(limits.usd),
            "calls": limits.calls,
            "seconds": limits.seconds,
            "depth": limits.depth,
            "fanout": limits.fanout,
        },
    }
