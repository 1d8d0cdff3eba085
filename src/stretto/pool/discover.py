"""Zero configuration: workers for the provider keys in the environment and for the model servers on this machine.

Nothing is read but the environment it is given, and nobody is asked but through the probe it is given.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from stretto.pool.http import HttpRequest, Transport, TransportError, parse_url
from stretto.pool.worker import Place, Worker, describe
from stretto.types import Price

__all__ = ["Found", "Probe", "discover", "http_probe"]

Probe = Callable[[str], Awaitable[tuple[str, ...] | None]]
"""The models that the server at a base URL lists; `None` if nobody answers there."""


@dataclass(frozen=True, slots=True)
class Found:
    """What there is: workers, and a line to show for each key and server."""

    workers: tuple[Worker, ...] = ()
    announcements: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Vendor:
    name: str
    keys: tuple[str, ...]
    base_url: str
    models: tuple[str, ...]
    remark: str = ""


_VENDORS: Final = (
    _Vendor(
        "openai",
        ("OPENAI_API_KEY",),
        "https://api.openai.com/v1",
        ("gpt-5.6-sol", "gpt-5.6-terra", "gpt-5.6-luna"),
    ),
    _Vendor(
        "anthropic",
        ("ANTHROPIC_API_KEY",),
        "https://api.anthropic.com/v1",
        ("claude-opus-4-8", "claude-sonnet-5", "claude-haiku-4-5"),
        "over its OpenAI-compatible endpoint",
    ),
    _Vendor(
        "google",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "https://generativelanguage.googleapis.com/v1beta/openai",
        ("gemini-3.6-flash", "gemini-3.5-flash-lite"),
        "over its OpenAI-compatible endpoint",
    ),
    _Vendor(
        "mistral",
        ("MISTRAL_API_KEY",),
        "https://api.mistral.ai/v1",
        ("mistral-large-latest", "mistral-small-latest"),
    ),
    _Vendor(
        "deepseek",
        ("DEEPSEEK_API_KEY",),
        "https://api.deepseek.com/v1",
        ("deepseek-v4-pro", "deepseek-v4-flash"),
    ),
    _Vendor("xai", ("XAI_API_KEY",), "https://api.x.ai/v1", ("grok-4.5", "grok-4.3")),
    _Vendor(
        "groq",
        ("GROQ_API_KEY",),
        "https://api.groq.com/openai/v1",
        ("openai/gpt-oss-120b", "llama-3.3-70b-versatile"),
    ),
    _Vendor(
        "together",
        ("TOGETHER_API_KEY",),
        "https://api.together.xyz/v1",
        ("openai/gpt-oss-120b", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
    ),
    _Vendor(
        "openrouter",
        ("OPENROUTER_API_KEY",),
        "https://openrouter.ai/api/v1",
        ("openai/gpt-5.1", "anthropic/claude-sonnet-4.5", "google/gemini-2.5-flash"),
    ),
)

_SERVERS: Final = (
    ("Ollama", "ollama", 11434),
    ("llama.cpp", "llamacpp", 8080),
    ("vLLM", "vllm", 8000),
    ("LM Studio", "lmstudio", 1234),
)
_MOST_LISTED: Final = 16


async def discover(environ: Mapping[str, str], probe: Probe) -> Found:
    """Workers for every provider key in `environ`, and for every model that a server on a usual loopback port lists.

    Ids are the models' names; where two places have one model, the later one's is `place/model`. Local models are free.
    """
    urls = [f"http://127.0.0.1:{port}/v1" for _, _, port in _SERVERS]
    listed = await asyncio.gather(*(probe(url) for url in urls))
    workers: dict[str, Worker] = {}
    lines: list[str] = []
    for vendor in _VENDORS:
        variable = next((name for name in vendor.keys if environ.get(name, "").strip()), None)
        if variable is None:
            continue
        added = [_from_vendor(vendor, model, environ[variable].strip(), workers) for model in vendor.models]
        remark = f" {vendor.remark}" if vendor.remark else ""
        lines.append(f"{variable}: {vendor.name}{remark}: {', '.join(worker.id for worker in added)}")
        unpriced = [worker.id for worker in added if not worker.card.priced]
        if unpriced:
            lines.append(
                f"  no price is known of {', '.join(unpriced)}: money limits refuse them until stretto.toml gives one"
            )
    for (title, name, _), url, models in zip(_SERVERS, urls, listed, strict=True):
        if models is None:
            continue
        added = [_from_server(name, url, model, workers) for model in models[:_MOST_LISTED]]
        more = f", and {len(models) - len(added)} more" if len(models) > len(added) else ""
        shown = ", ".join(worker.id for worker in added) or "no models"
        lines.append(f"{title} at {url}: {shown}{more}")
    return Found(tuple(workers.values()), tuple(lines))


def _from_vendor(vendor: _Vendor, model: str, key: str, workers: dict[str, Worker]) -> Worker:
    id = _free_id(model.rsplit("/", 1)[-1], vendor.name, workers)
    place = Place(f"{vendor.name}/{id.removeprefix(vendor.name + '/')}", vendor.base_url, key)
    workers[id] = describe(id, model, [place], labels={"host": vendor.name})
    return workers[id]


def _from_server(name: str, url: str, model: str, workers: dict[str, Worker]) -> Worker:
    id = _free_id(model, name, workers)
    place = Place(f"{name}/{id.removeprefix(name + '/')}", url, labels={"host": "local"})
    workers[id] = describe(id, model, [place], price=Price(), labels={"vendor": name, "host": "local"})
    return workers[id]


def _free_id(name: str, place: str, workers: Mapping[str, Worker]) -> str:
    if name not in workers:
        return name
    longer, number = f"{place}/{name}", 2
    while longer in workers:
        longer, number = f"{place}/{name}-{number}", number + 1
    return longer


def http_probe(transport: Transport, seconds: float = 0.4) -> Probe:
    """A probe that asks `GET <base URL>/models`, for `seconds` at most. Another Stretto does not count as a model server."""

    async def probe(base_url: str) -> tuple[str, ...] | None:
        origin, base = parse_url(base_url)
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            response = await transport.send(HttpRequest(b"GET", origin, base + b"/models", deadline=deadline))
            if response.status != 200:
                await response.close()
                return None
            return _listed(await response.read(4 * 1024 * 1024))
        except TransportError:
            return None

    return probe


def _listed(body: bytes) -> tuple[str, ...] | None:
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    rows = raw.get("data") if isinstance(raw, dict) else None
    if not isinstance(rows, list) or any(
        isinstance(row, dict) and row.get("owned_by") == "stretto" for row in rows
    ):
        return None
    ids = [row.get("id") for row in rows if isinstance(row, dict)]
    return tuple([id for id in ids if isinstance(id, str) and id.isprintable() and 0 < len(id) <= 200])
