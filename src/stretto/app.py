"""The composition root: the only place that connects everything. From settings to a world of pool, ledger, engine and gateway."""

import hashlib
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from stretto import __version__, sparring
from stretto.catalog import Catalog, equipped
from stretto.catalog.learned import Learned, learned
from stretto.catalog.masks import Masks
from stretto.catalog.watch import Watch
from stretto.config import Settings, WorkerSettings, loopback
from stretto.engine.run import Engine
from stretto.errors import ConfigError, UnknownModel
from stretto.gateway.auth import check_listen
from stretto.gateway.http import Gateway
from stretto.gateway.settings import Settings as GatewaySettings
from stretto.gateway.settings import Shadow
from stretto.ledger.accounts import SqliteAccounts
from stretto.ledger.journal import JournalStore
from stretto.ledger.keys import Keys
from stretto.ledger.process import process_id
from stretto.ledger.read import Reader
from stretto.ledger.sqlite import connect, index_path, migrate
from stretto.ledger.states import SqliteStates
from stretto.ledger.usual import Usual, usual
from stretto.pool.discover import Found, discover, http_probe
from stretto.pool.http import HttpClient
from stretto.pool.local import LlamaRuntime
from stretto.pool.worker import Place, Worker, WorkerPool, describe
from stretto.sparring.pool import PoolEntry

__all__ = ["World", "check_access", "find_workers", "needs_key", "open_world"]


@dataclass(frozen=True, slots=True)
class World:
    """Everything of one process, connected. `found` tells how the pool came about."""

    settings: Settings
    found: Found
    pool: WorkerPool
    local: LlamaRuntime
    store: JournalStore
    keys: Keys
    accounts: SqliteAccounts
    states: SqliteStates
    engine: Engine
    catalog: Catalog
    reader: Reader
    masks: Masks
    known: Learned
    artefacts: Path | None = None

    def watch(self) -> Watch:
        """What looks after promises, workers and artefacts while the gateway runs."""
        return Watch(self.settings.data, self.settings.watch, self._renew)

    def _renew(self) -> None:
        """Serve the evidence, the table and the thresholds that lie in the data folder now."""
        texts = [w.id for w in self.found.workers if "text" in w.card.abilities]
        now = learned(self.settings.data, texts, self.artefacts)
        changed = replace(self.known, table=now.table, thresholds=now.thresholds, evidence=now.evidence)
        try:
            self.catalog.renew(changed)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"an artefact in {self.settings.data} is not what it should be: {error!r}"
            ) from None

    def gateway(self) -> Gateway:
        """The ASGI application. Raises `ConfigError` like `check_access`."""
        check_access(self.settings, self.keys)
        settings = GatewaySettings(
            version=__version__,
            config=_config_version(self.settings),
            anonymous=lambda: not needs_key(self.settings, self.keys),
            health=self._health,
            response_lifetime=self.settings.keeps_responses,
            shadow=self._shadow(),
        )
        return Gateway(
            self.engine, self.catalog, self.keys, self.reader, settings=settings, states=self.states
        )

    def _shadow(self) -> Shadow | None:
        """Raises `ConfigError` for names that mean nothing here."""
        wanted = self.settings.shadow
        if wanted is None:
            return None
        for key, name in (("policy", wanted.policy), ("of", wanted.of)):
            try:
                self.catalog.resolve(name)
            except UnknownModel as error:
                raise ConfigError(f"{self.settings.source}: shadow.{key}: {error}") from None
        return Shadow(
            policy=wanted.policy,
            of=wanted.of,
            share=wanted.share,
            day=wanted.usd_per_day,
            at_once=wanted.at_once,
        )

    def _health(self) -> Mapping[str, Any]:
        ledger = "unavailable" if self.store.trouble else "ok"
        told = {"workers": len(self.pool.cards()), "process": self.store.process, "ledger": ledger}
        left_out = [worker for worker, _ in self.masks.current()]
        return told | {"left_out": left_out} if left_out else told


def _config_version(settings: Settings) -> str:
    """A hash of the configuration file, to tell which one a process runs with; "" without a file. Anybody may read /health."""
    if settings.source is None:
        return ""
    return hashlib.sha256(settings.source.read_bytes()).hexdigest()[:12]


def check_access(settings: Settings, keys: Keys) -> None:
    """Raises `ConfigError` if others than this machine could reach the gateway without a key."""
    server = settings.server
    check_listen(server.host, any(key.revoked is None for key in keys.list()))
    if server.anonymous and not loopback(server.host):
        raise ConfigError(
            f"server.anonymous lets callers in without a key; listening on {server.host} it cannot be true"
        )


def needs_key(settings: Settings, keys: Keys) -> bool:
    """Whether callers must show a key: as the configuration says, else everywhere but on loopback while there are no keys.

    A revoked key counts: taking the last one away must not open the door.
    """
    if settings.server.anonymous is not None:
        return not settings.server.anonymous
    return not loopback(settings.server.host) or keys.any


async def find_workers(settings: Settings, environ: Mapping[str, str] | None = None) -> Found:
    """The workers of a deployment: the configured ones, else what is found on this machine, else the sparring models.

    Raises `ConfigError` when there are none.
    """
    environ = os.environ if environ is None else environ
    workers = tuple(_configured(worker, environ) for worker in settings.workers)
    lines: tuple[str, ...] = ()
    if workers:
        lines = (f"{settings.source}: {', '.join(worker.id for worker in workers)}",)
    elif settings.pool.discover:
        transport = HttpClient()
        try:
            found = await discover(environ, http_probe(transport))
        finally:
            await transport.close()
        workers, lines = found.workers, found.announcements
    wanted = settings.pool.sparring
    if wanted or (wanted is None and not workers):
        taken = {worker.id for worker in workers}
        shipped = tuple(_sparring(entry) for entry in sparring.entries() if entry.id not in taken)
        workers += shipped
        why = "" if wanted else "no provider key and no model server was found: "
        listed = ", ".join(worker.id for worker in shipped)
        lines += (
            f"{why}sparring models: {listed} (they know twenty kinds of puzzle: `stretto sparring problems`)",
        )
    if not workers:
        raise ConfigError(
            "there is no worker: add a [[worker]] to stretto.toml, export a provider key such as OPENAI_API_KEY, "
            "or leave `pool.sparring` out so that the models that ship with Stretto are used"
        )
    return Found(workers, lines)


@asynccontextmanager
async def open_world(
    settings: Settings, found: Found | None = None, *, artefacts: Path | None = None
) -> AsyncIterator[World]:
    """The world of this process, for as long as the context lasts. `found` spares looking for workers again.

    `artefacts`: a folder of learned ones that go before those of the data folder.

    Raises `ConfigError` and `LedgerError`, before anything is served.
    """
    data = settings.data
    found = found or await find_workers(settings)
    process = process_id()
    durability = cast(Literal["process", "power"], settings.ledger.durability)
    async with AsyncExitStack() as stack:
        transport = HttpClient()
        stack.push_async_callback(transport.close)
        local = LlamaRuntime(data)
        stack.push_async_callback(local.close)
        workers, known = equipped(settings, found.workers, artefacts)
        pool = WorkerPool(workers, transport, local=local)
        masks = Masks(data)
        catalog = Catalog(pool.cards(), settings, known, masks.current)
        store = JournalStore(
            data,
            process=process,
            durability=durability,
            content="full" if settings.keeps_content else "digest",
        )
        stack.callback(store.close)
        connection = connect(index_path(data))
        stack.callback(connection.close)
        migrate(connection)
        _recall(pool, known, usual(connection))
        accounts = SqliteAccounts.open(data, process, durability=durability)
        stack.callback(accounts.close)
        states = SqliteStates(data)
        stack.callback(states.close)
        yield World(
            settings=settings,
            found=found,
            pool=pool,
            local=local,
            store=store,
            keys=Keys(connection),
            accounts=accounts,
            states=states,
            engine=Engine(
                pool,
                store,
                accounts,
                limits=settings.limits,
                process=process,
                states=states,
                lifetime=settings.ledger.state_lifetime,
            ),
            catalog=catalog,
            reader=Reader(store),
            masks=masks,
            known=known,
            artefacts=artefacts,
        )


def _recall(pool: WorkerPool, known: Learned, lately: Iterable[Usual]) -> None:
    """Tell the pool how long its workers' answers usually are: by what was learned, and by the ledger, which goes before that."""
    for worker, output in known.lengths().items():
        pool.learn(worker, output)
    for one in lately:
        pool.remember(one.worker, one.role, one.output, one.seconds)


def _configured(worker: WorkerSettings, environ: Mapping[str, str]) -> Worker:
    """A worker as the configuration describes it, completed by the shipped profiles."""
    if worker.path is not None:
        places = [Place(f"{worker.id}/local", gguf=worker.path, labels={"host": "local"})]
    else:
        several = len(worker.endpoints) > 1
        places = [
            Place(
                f"{worker.id}/{number}" if several else worker.id,
                endpoint.base_url,
                environ.get(endpoint.api_key_env, ""),
                labels=endpoint.labels,
            )
            for number, endpoint in enumerate(worker.endpoints, 1)
        ]
    return describe(
        worker.id,
        worker.model,
        places,
        wire=worker.wire,
        price=worker.price,
        labels=worker.labels,
        abilities=worker.abilities,
        context=worker.context,
        max_output=worker.max_output,
        description=worker.description,
    )


def _sparring(entry: PoolEntry) -> Worker:
    place = Place(f"{entry.id}/local", gguf=entry.path, labels={"host": "local"})
    return Worker(entry.id, entry.id, (place,), entry.card, dense=True)
