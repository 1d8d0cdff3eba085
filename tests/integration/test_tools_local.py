"""Structured output of a real local model: llama.cpp forces it into the schema, so it streams, and it fits."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from stretto import sparring
from stretto.app import open_world
from stretto.config import parse
from stretto.types import Delta, Message, Request

MODEL = Path(sparring.__file__).parent / "models" / "general-small.gguf"
FORMS = [
    {"type": "json_object"},
    {
        "type": "json_schema",
        "json_schema": {
            "name": "side",
            "schema": {
                "type": "object",
                "properties": {"side": {"enum": ["left", "right"]}},
                "required": ["side"],
                "additionalProperties": False,
            },
        },
    },
]


def test_a_local_model_streams_what_fits(tmp_path: Path) -> None:
    """A model that knows nothing of JSON writes nothing else: live, in one call, and accepted by our own check."""
    config = f"""
[server]
data = "data"

[[worker]]
id = "mine"
path = "{MODEL}"
abilities = ["text", "json", "grammar"]
"""

    async def scene() -> None:
        pieces: list[Delta] = []

        async def emit(deltas: Sequence[Delta]) -> None:
            pieces.extend(deltas)

        async with open_world(parse(config, file=str(tmp_path / "stretto.toml"))) as world:
            for form in FORMS:
                pieces.clear()
                request = Request(
                    messages=(Message("user", "2 + 2 ="),),
                    response_format=form,
                    params={"temperature": 0},
                    max_tokens=300,
                )
                run = await world.engine.run(world.catalog.resolve("mine"), request, emit=emit)
                assert (run.answer.error, run.answer.finish, run.calls) == (None, "stop", 1)
                assert run.streamed
                assert "".join(piece.text for piece in pieces) == run.answer.text
                assert isinstance(json.loads(run.answer.text), dict)

    asyncio.run(scene())
