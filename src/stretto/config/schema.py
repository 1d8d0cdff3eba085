"""The schema of `stretto.toml`, and the search for it.

Every mistake is a `ConfigError` that names the file, the line where it can be found, the key as a dotted path, what is
allowed there, and the nearest right word. Money is USD in the file.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from stretto.config.settings import (
    EndpointSettings,
    LedgerSettings,
    PolicySettings,
    PoolSettings,
    RuleSettings,
    ServerSettings,
    Settings,
    ShadowSettings,
    WatchSettings,
    WorkerSettings,
    loopback,
)
from stretto.config.toml import (
    Check,
    File,
    Table,
    Wrong,
    a_flag,
    a_name,
    a_number,
    a_pattern,
    a_text,
    a_whole,
    one_of,
    some_labels,
    some_of,
    some_texts,
)
from stretto.errors import ConfigError
from stretto.types import PICO, Limits, Price

__all__ = ["KEYS", "POLICY_KEYS", "load", "parse"]

_ABILITIES: Final = (
    "text",
    "tools",
    "json",
    "vision",
    "logprobs",
    "embedding",
    "state",
    "tokens",
    "reasoning",
    "grammar",
    "custom",
    "hosted",
)
_WIRES: Final = ("chat", "responses", "messages", "completions", "embeddings")
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]*")

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "": ("server", "worker", "pool", "policy", "limits", "rule", "ledger", "shadow", "watch"),
    "server": ("host", "port", "data", "workers", "grace", "anonymous"),
    "worker": (
        "id",
        "wire",
        "model",
        "endpoints",
        "path",
        "price",
        "labels",
        "abilities",
        "context",
        "max_output",
        "description",
    ),
    "worker.endpoints": ("base_url", "api_key_env", "insecure", "labels"),
    "worker.price": ("input", "output", "cached"),
    "pool": ("discover", "sparring"),
    "limits": ("usd", "calls", "seconds", "depth", "fanout"),
    "rule": ("when", "use"),
    "rule.when": ("contains", "matches", "max_tokens_below", "longer_than", "tools"),
    "ledger": ("durability", "content", "state_lifetime", "response_lifetime"),
    "shadow": ("policy", "of", "share", "usd_per_day", "at_once"),
    "watch": ("hours", "demote", "mask", "mask_hours"),
}
"""The keys that each table may hold. The options of a policy are in `POLICY_KEYS`."""

_WHEN: Final[Mapping[str, Check]] = {
    "contains": some_texts,
    "matches": a_pattern,
    "max_tokens_below": a_whole(1),
    "longer_than": a_whole(0),
    "tools": a_flag,
}

POLICY_KEYS: Final[Mapping[str, Mapping[str, Check]]] = {
    "solo": {"worker": a_name},
    "route": {"among": some_texts, "default": a_name, "table": a_text, "explore": a_number(0, 0.5)},
    "cascade": {
        "rungs": some_texts,
        "check": one_of("confidence", "agreement", "verifier"),
        "threshold": a_number(0, 1),
        "thresholds": a_text,
        "verifier": a_name,
        "samples": a_whole(1, 16),
        "temperature": a_number(0, 2),
        "wordings": one_of("standard", "compact"),
    },
    "fuse": {
        "panel": some_texts,
        "samples": a_whole(1, 32),
        "how": one_of("vote", "select", "rank", "pairs", "synthesise"),
        "weigh": one_of("count", "confidence"),
        "judge": a_name,
        "writer": a_name,
        "layers": a_whole(1, 8),
        "sequential": a_flag,
        "analysis": a_flag,
        "quorum": a_whole(1),
        "deadline": a_number(0.001),
        "temperature": a_number(0, 2),
        "wordings": one_of("standard", "compact"),
    },
    "sequential": {
        "artifact": a_text,
        "price": a_number(0, 1),
        "explore": a_number(0, 0.5),
        "rounds": a_whole(1, 2),
        "certified": a_flag,
        "same": one_of("exact", "embedding", "judge"),
        "comparer": a_name,
        "verifier": a_name,
    },
    "trinity": {
        "artifact": a_text,
        "turns": a_whole(1, 16),
        "sample": a_flag,
        "roles": a_flag,
        "verifier": one_of("verdict", "agreement"),
        "otherwise": a_name,
        "alone": a_number(0, 1),
    },
    "conductor": {
        "artifact": a_text,
        "planner": a_name,
        "among": some_texts,
        "steps": a_whole(1, 5),
        "depth": a_whole(0, 2),
        "itself": a_flag,
        "forms": one_of("given", "tagged"),
        "repair": a_flag,
        "options": a_whole(1, 16),
        "temperature": a_number(0, 2),
        "doubt": a_number(0, 1),
        "seats": some_texts,
        "alone": a_number(0, 1),
    },
    "ultra": {
        "conductor": a_name,
        "check": one_of("confidence", "verifier"),
        "threshold": a_number(0, 1),
        "doubt": a_number(0, 1),
        "verifier": a_name,
        "panel": some_texts,
        "writer": a_name,
        "wordings": one_of("standard", "compact"),
        "alone": a_number(0, 1),
    },
    "fallback": {"workers": some_texts},
    "random": {"among": some_texts},
}
"""The options of each built-in policy type. A type that is not here is looked for among the installed entry points."""


def parse(text: str, *, file: str = "stretto.toml", environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the text of a configuration file. `file` names it in errors, and relative paths start at its folder.

    Raises `ConfigError`. `environ` is where `api_key_env` variables must exist (`None`: that is not checked).
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from None
    top = Table(File(file, text), "", data)
    top.only(*KEYS[""])
    base = Path(file).parent
    workers = _workers(top.tables("worker", "[[worker]] with double brackets"), base, environ)
    names = {worker.id for worker in workers}
    return Settings(
        server=_server(top.table("server"), base),
        workers=workers,
        pool=_pool(top.table("pool")),
        policies=_policies(top.table("policy"), names),
        limits=_limits(top.table("limits")),
        rules=tuple(_rule(item) for item in top.tables("rule", "[[rule]] with double brackets")),
        ledger=_ledger(top.table("ledger")),
        shadow=_shadow(top.table("shadow")) if "shadow" in top.data else None,
        watch=_watch(top.table("watch")),
        source=Path(file),
    )


def _server(table: Table, base: Path) -> ServerSettings:
    table.only(*KEYS["server"])
    known = ServerSettings()
    return ServerSettings(
        host=table.get("host", a_text, known.host),
        port=table.get("port", a_whole(1, 65535), known.port),
        data=base / Path(table.get("data", a_text, str(known.data))).expanduser(),
        workers=table.get("workers", a_whole(1, 64), known.workers),
        grace=table.get("grace", a_number(0, 3600), known.grace),
        anonymous=table.get("anonymous", a_flag),
    )


def _workers(
    tables: list[Table], base: Path, environ: Mapping[str, str] | None
) -> tuple[WorkerSettings, ...]:
    workers: dict[str, WorkerSettings] = {}
    for table in tables:
        worker = _worker(table, base, environ)
        if worker.id in workers:
            raise table.wrong("id", f'there is a worker "{worker.id}" already; ids are unique')
        workers[worker.id] = worker
    return tuple(workers.values())


def _worker(table: Table, base: Path, environ: Mapping[str, str] | None) -> WorkerSettings:
    name = table.need("id", a_name, 'id = "opus"')
    table.title = f'worker "{name}"'
    table.only(*KEYS["worker"])
    path = table.get("path", a_text)
    places = table.tables("endpoints", 'endpoints = [{ base_url = "https://..." }]')
    if path is not None and places:
        raise table.wrong("path", "a worker has either `path` (a local GGUF file) or `endpoints`, not both")
    if path is None and not places:
        raise table.file.wrong(
            table.path, f'needs `endpoints` or, for a local model, `path = "model.gguf"` ({table.title})'
        )
    wire = table.get("wire", one_of(*_WIRES), "chat")
    if path is not None:
        path = base / Path(path).expanduser()
        if not path.is_file():
            raise table.wrong("path", f"there is no file {path}")
    abilities = table.get("abilities", some_of(*_ABILITIES))
    return WorkerSettings(
        id=name,
        wire=wire,
        model=table.get("model", a_text, name),
        endpoints=tuple(_endpoint(place, environ) for place in places),
        path=path,
        price=_price(table.table("price")) if "price" in table.data else None,
        labels=table.get("labels", some_labels, {}),
        abilities=None if abilities is None else frozenset(abilities),
        context=table.get("context", a_whole(1)),
        max_output=table.get("max_output", a_whole(1)),
        description=table.get("description", a_text, ""),
    )


def _endpoint(table: Table, environ: Mapping[str, str] | None) -> EndpointSettings:
    table.only(*KEYS["worker.endpoints"])
    settings = EndpointSettings(
        base_url=table.need("base_url", a_text, 'base_url = "https://api.openai.com/v1"').rstrip("/"),
        api_key_env=table.get("api_key_env", a_text, ""),
        insecure=table.get("insecure", a_flag, False),
        labels=table.get("labels", some_labels, {}),
    )
    variable = settings.api_key_env
    if variable and environ is not None and not environ.get(variable):
        if not _VARIABLE.fullmatch(variable):  # it may be the key: it is not repeated here
            raise table.wrong(
                "api_key_env",
                'takes the name of an environment variable, such as "OPENAI_API_KEY", never the key itself; '
                "what stands there is not set",
            )
        raise table.wrong(
            "api_key_env", f"the environment variable {variable} is not set; export it, or leave the key out"
        )
    try:
        url = urlsplit(settings.base_url)
        _ = url.port
    except ValueError as error:
        raise table.wrong("base_url", f"is not a URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise table.wrong("base_url", "takes a URL that begins with https:// (or http:// on this machine)")
    if url.username or url.password or url.query or url.fragment:
        raise table.wrong(
            "base_url", "takes no user, password, query or fragment; a key belongs in `api_key_env`"
        )
    if url.scheme == "http" and not settings.insecure and not loopback(url.hostname):
        raise table.wrong(
            "base_url",
            "would send prompts and keys unencrypted; use https://, or add `insecure = true` to accept that",
        )
    return settings


def _price(table: Table) -> Price:
    table.only(*KEYS["worker.price"])
    written = "price = { input = 5.0, output = 25.0 }, in USD per million tokens"
    return Price.per_million(
        table.need("input", a_number(0), written),
        table.need("output", a_number(0), written),
        table.get("cached", a_number(0)),
    )


def _pool(table: Table) -> PoolSettings:
    table.only(*KEYS["pool"])
    return PoolSettings(table.get("discover", a_flag, True), table.get("sparring", a_flag))


def _policies(table: Table, workers: Iterable[str]) -> dict[str, PolicySettings]:
    policies: dict[str, PolicySettings] = {}
    for name in table.data:
        item = table.table(name)
        try:
            a_name(name)
        except Wrong as wrong:
            raise item.file.wrong(item.path, str(wrong)) from None
        if name in workers:
            raise item.file.wrong(
                item.path, f'"{name}" is a worker already; a name on the wire means one thing'
            )
        kind = item.need("type", a_text, 'type = "fuse"')
        if (keys := POLICY_KEYS.get(kind)) is None:
            options = {key: value for key, value in item.data.items() if key != "type"}
        else:
            item.only("type", *keys)
            options = {
                key: value for key, check in keys.items() if (value := item.get(key, check)) is not None
            }
        policies[name] = PolicySettings(name, kind, options, item.file.where(item.path))
    return policies


def _limits(table: Table) -> Limits:
    table.only(*KEYS["limits"])
    known = Limits()
    money = table.get("usd", a_number(0))
    return Limits(
        usd=None if money is None else round(money * PICO),
        calls=table.get("calls", a_whole(1)),
        seconds=table.get("seconds", a_number(0.001)),
        depth=table.get("depth", a_whole(1, 64), known.depth),
        fanout=table.get("fanout", a_whole(1, 1024), known.fanout),
    )


def _rule(table: Table) -> RuleSettings:
    table.only(*KEYS["rule"])
    use = table.need("use", a_name, 'use = "gpt"')
    when = table.table("when")
    when.only(*KEYS["rule.when"])
    conditions = {key: value for key, check in _WHEN.items() if (value := when.get(key, check)) is not None}
    if not conditions:
        raise table.wrong("when", f"needs at least one of {', '.join(_WHEN)}")
    return RuleSettings(use, conditions, table.file.where(table.path))


def _ledger(table: Table) -> LedgerSettings:
    table.only(*KEYS["ledger"])
    known = LedgerSettings()
    return LedgerSettings(
        table.get("durability", one_of("process", "power"), known.durability),
        table.get("content", one_of("full", "digest")),
        table.get("state_lifetime", a_number(1), known.state_lifetime),
        table.get("response_lifetime", a_number(0)),
    )


def _shadow(table: Table) -> ShadowSettings:
    table.only(*KEYS["shadow"])
    policy = table.need("policy", a_name, 'policy = "candidate"')
    money = table.need("usd_per_day", a_number(0, 9_000_000), "usd_per_day = 1.0")
    of = table.get("of", a_name, "stretto")
    if of == policy:
        raise table.wrong("policy", f'"{policy}" is what serves: name another one to compare it with')
    return ShadowSettings(
        policy,
        round(money * PICO),
        of,
        table.get("share", a_number(0, 1), 0.05),
        table.get("at_once", a_whole(1, 64), 2),
    )


def _watch(table: Table) -> WatchSettings:
    table.only(*KEYS["watch"])
    known = WatchSettings()
    return WatchSettings(
        table.get("hours", a_number(0), known.hours),
        table.get("demote", a_flag, known.demote),
        table.get("mask", a_flag, known.mask),
        table.get("mask_hours", a_number(0.01), known.mask_hours),
    )


# --- finding it --------------------------------------------------------------------------------------------------


def load(
    config: str | Path | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    data: str | Path | None = None,
    workers: int | None = None,
    environ: Mapping[str, str] | None = None,
    needs_keys: bool = True,
) -> Settings:
    """The settings in force. The arguments are command-line flags; without `config`, `./stretto.toml` is read if it exists.

    With `needs_keys=False` (for those who will ask nobody) provider keys may be missing from the environment. Raises
    `ConfigError`.
    """
    environ = os.environ if environ is None else environ
    named = config or environ.get("STRETTO_CONFIG")
    path = Path(named).expanduser() if named else Path("stretto.toml")
    settings = Settings()
    if named or path.is_file():
        try:
            text = path.read_text(encoding="utf-8-sig")  # some editors begin with a byte order mark
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            by = (
                f"; {'--config' if config else 'STRETTO_CONFIG'} names the configuration file"
                if named
                else ""
            )
            raise ConfigError(f"{path}: cannot be read ({reason}){by}") from None
        settings = parse(text, file=str(path), environ=environ if needs_keys else None)
    server = settings.server
    if port is None and (written := environ.get("STRETTO_PORT")):
        port = _port(written)
    where = data or environ.get("STRETTO_DATA") or server.data
    return replace(
        settings,
        server=replace(
            server,
            host=host if host is not None else server.host,
            port=port if port is not None else server.port,
            data=Path(where),
            workers=workers if workers is not None else server.workers,
        ),
    )


def _port(written: str) -> int:
    if not written.isdecimal() or not 1 <= int(written) <= 65535:
        raise ConfigError(f'STRETTO_PORT is "{written}"; it takes a port from 1 to 65535')
    return int(written)
