"""Golden transcripts: what real clients sent, what Stretto asked its upstream for it, what that said, and what the client got.

`tests/golden/clients/CLIENT.json` holds a list of *tales*: one worker (and so one wire upstream) and the exchanges of a client
with it, in their order. Only what differs from run to run is made equal: ids of runs, times, headers that tell of the machine.
They are recorded by `python -m bench.clients.record_golden`, and replayed by `tests/integration/test_golden_clients.py`.
"""

import base64
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from stretto.app import open_world
from stretto.config import parse
from stretto.gateway.http import Gateway
from stretto.gateway.settings import Settings

FOLDER = Path(__file__).parent / "golden" / "clients"
WIRES = {"north": "chat", "south": "messages", "west": "responses"}
"""Workers, and the wire that each speaks."""

_TIMES = re.compile(r'("(?:created|created_at|completed_at)": ?)\d+')
_KEPT = frozenset({"accept", "content-type", "anthropic-version", "anthropic-beta", "openai-beta"})


@asynccontextmanager
async def gateway(folder: Path, upstream: str) -> AsyncIterator[Gateway]:
    """Stretto with one worker of each wire at `upstream`; no keep-alives: how long a machine takes is no part of a transcript."""
    text = '[server]\ndata = "data"\n[pool]\ndiscover = false\nsparring = false\n'
    for id, wire in WIRES.items():
        text += f'[[worker]]\nid = "{id}"\nwire = "{wire}"\nendpoints = [{{ base_url = "{upstream}" }}]\n'
        text += 'price = { input = 1, output = 4 }\nabilities = ["text", "tools", "json", "vision"]\n'
    file = folder / "stretto.toml"
    file.write_text(text)
    async with open_world(parse(text, file=str(file))) as world:
        settings = Settings(anonymous=lambda: True, first_beat=3600.0, beat=3600.0)
        yield Gateway(
            world.engine, world.catalog, world.keys, world.reader, settings=settings, states=world.states
        )


class Names:
    """What the runs of one tale are called in its transcript: their ids and the handles in tool-call ids, by number."""

    def __init__(self) -> None:
        self._pairs: list[tuple[str, str]] = []

    def met(self, run_id: str) -> None:
        """A run has been given this id."""
        number, hex = len(self._pairs) // 2 + 1, run_id.removeprefix("run_")
        handle = base64.urlsafe_b64encode(bytes.fromhex(hex)).rstrip(b"=").decode()
        made_up = base64.urlsafe_b64encode(number.to_bytes(16, "big")).rstrip(b"=").decode()
        self._pairs += [(hex, f"{number:032x}"), (handle, made_up)]

    def told(self, text: str) -> str:
        """A text as the transcript has it."""
        for real, made_up in self._pairs:
            text = text.replace(real, made_up)
        return _TIMES.sub(r"\g<1>0", text)

    def real(self, text: str) -> str:
        """A text of the transcript with the ids of the runs that were met."""
        for real, made_up in self._pairs:
            text = text.replace(made_up, real)
        return text


def headers_told(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A client's headers, without what tells of the machine, the versions and the key."""
    return {name: value if name in _KEPT else "*" for name, value in sorted(headers)}


def body_told(body: bytes, names: Names) -> Any:
    """A body as it is kept: JSON as such, a stream as its lines."""
    text = names.told(body.decode())
    return json.loads(text) if text.startswith(("{", "[")) else text.split("\n")


def body_real(kept: Any, names: Names) -> bytes:
    """The body that was kept so."""
    text = "\n".join(kept) if isinstance(kept, list) else json.dumps(kept, ensure_ascii=False)
    return names.real(text).encode()


def same(one: Any, other: Any) -> bool:
    """Whether two bodies are the same to the byte, but for the spaces between JSON's tokens: the order of fields counts."""
    return json.dumps(one) == json.dumps(other)


def tales() -> list[tuple[str, Mapping[str, Any]]]:
    """Every tale, with a name for it."""
    return [
        (f"{path.stem} {tale['feature']} {tale['model']}", tale)
        for path in sorted(FOLDER.glob("*.json"))
        for tale in json.loads(path.read_text())["tales"]
    ]
