"""What other programs need to know of a gateway: its address, the names that it answers to, and whether it wants a key."""

import asyncio
import http.client
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from stretto.cli.options import database
from stretto.config import load, near
from stretto.errors import ConfigError

__all__ = ["KEY_VARIABLE", "Gateway", "Model", "configured", "served", "with_choice"]

KEY_VARIABLE: Final = "STRETTO_KEY"
"""The environment variable that holds the gateway's key, unless another is named."""
_REACHABLE: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
_SECONDS: Final = 10.0
_SECOND_NAMES: Final = "openrouter/"
"""What other programs need not list: these stand for names that are listed already."""


@dataclass(frozen=True, slots=True)
class Model:
    """A name on the wire. `context` is tokens in and out together; `policy`: it stands for several models."""

    id: str
    description: str = ""
    context: int | None = None
    output: int | None = None
    abilities: frozenset[str] = frozenset()
    policy: bool = False


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway: `url` ends in /v1, `key` names the environment variable with its key ("": it wants none).

    `model` is the name that a program asks for, `small` the one for its small tasks, such as titles.
    """

    url: str
    models: tuple[Model, ...]
    key: str = ""
    model: str = ""
    small: str = ""

    @property
    def root(self) -> str:
        """The address without /v1."""
        return self.url.removesuffix("/v1")

    @property
    def chosen(self) -> Model:
        """The model of the name `model`."""
        return next(model for model in self.models if model.id == self.model)


def configured(config: Path | None, data: Path | None, key: str | None) -> Gateway:
    """The gateway as the configuration has it; it need not run. Raises `ConfigError`."""
    from stretto.app import find_workers, needs_key
    from stretto.catalog import Catalog, equipped
    from stretto.ledger.keys import Keys
    from stretto.ledger.sqlite import index_path

    settings = load(config, data=data, needs_keys=False)
    server = settings.server
    if server.port == 0:
        raise ConfigError(
            "server.port is 0, any free port: name the address that `stretto serve` prints with --url"
        )
    workers, known = equipped(settings, asyncio.run(find_workers(settings)).workers)
    names = Catalog([worker.card for worker in workers], settings, known).models()
    if key is None:
        key = ""
        if index_path(settings.data).exists():
            with database(settings.data) as connection:
                key = KEY_VARIABLE if needs_key(settings, Keys(connection)) else ""
    host = server.host.strip("[]")
    host = _REACHABLE.get(host, f"[{host}]" if ":" in host else host)
    models = [
        Model(
            card.id,
            card.description,
            card.context,
            card.max_output,
            card.abilities,
            card.labels.get("kind") == "policy",
        )
        for card in names
    ]
    return Gateway(f"http://{host}:{server.port}/v1", _completed(models), key)


def served(url: str, key: str | None, environ: Mapping[str, str]) -> Gateway:
    """The gateway that runs at `url`, as it says itself. Raises `ConfigError`."""
    url = url.rstrip("/")
    url = url if url.endswith("/v1") else url + "/v1"
    named = KEY_VARIABLE if key is None and environ.get(KEY_VARIABLE) else key or ""
    if named and not environ.get(named):
        raise ConfigError(
            f"the environment variable {named} is not set: export it, so that {url} can be asked"
        )
    entries = _models(url, environ.get(named, ""))
    models = [
        Model(
            entry["id"],
            entry.get("description") or "",
            entry.get("context_length"),
            entry.get("max_output_tokens"),
            frozenset(entry.get("abilities") or ()),
            (entry.get("labels") or {}).get("kind") == "policy",
        )
        for entry in entries
    ]
    return Gateway(url, _completed(models), named)


def with_choice(gateway: Gateway, model: str, small: str | None) -> Gateway:
    """The gateway with the names that a program shall ask for. Raises `ConfigError` for one that it does not know."""
    known = [one.id for one in gateway.models]
    for name in (model, small or model):
        if name not in known:
            raise ConfigError(
                f'{gateway.url} has no model "{name}"{near(name, known) or "."} There are: {", ".join(known)}'
            )
    return replace(gateway, model=model, small=small or model)


def _completed(models: Iterable[Model]) -> tuple[Model, ...]:
    """All that can talk; a policy may come down to any worker, so it promises only what the smallest of them holds."""
    talking = [
        model
        for model in models
        if "text" in model.abilities and not (model.policy and model.id.startswith(_SECOND_NAMES))
    ]
    workers = [model for model in talking if not model.policy]
    able = [model for model in workers if "tools" in model.abilities] or workers

    def least(sizes: Iterable[int | None]) -> int | None:
        return min((size for size in sizes if size is not None), default=None)

    context, output = least(one.context for one in able), least(one.output for one in able)
    return tuple(
        replace(one, context=one.context or context, output=one.output or output) if one.policy else one
        for one in talking
    )


def _models(url: str, key: str) -> Sequence[Mapping[str, Any]]:
    """GET /v1/models."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--url takes an address such as http://127.0.0.1:8700/v1, not {url}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=_SECONDS)
    try:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        connection.request("GET", f"{parts.path}/models", headers=headers)
        response = connection.getresponse()
        body = response.read()
    except OSError as error:
        raise ConfigError(
            f"nothing answers at {url} ({error.strerror or error}): is `stretto serve` running?"
        ) from None
    except http.client.HTTPException as error:
        raise ConfigError(f"{url} does not speak HTTP ({error!r})") from None
    finally:
        connection.close()
    if response.status in (401, 403):
        raise ConfigError(
            f"{url} wants another key: make one with `stretto keys create NAME`, export it as {KEY_VARIABLE}, or name "
            "the variable that holds it with --key-env"
        )
    try:
        entries = json.loads(body)["data"]
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{url}/models answered {response.status} and no list of models: is it a Stretto gateway?"
        ) from None
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
