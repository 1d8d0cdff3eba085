"""Workers: a model that can be asked = a wire format, the places where it is served, and what is known of it."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from stretto.errors import ConfigError, LocalModelError
from stretto.pool.attempt import Lane, LocalModels, Timeouts, attempt, count
from stretto.pool.estimate import input_tokens, usual_tokens
from stretto.pool.gguf import read_gguf_header
from stretto.pool.health import FAILURES
from stretto.pool.http import Transport, header_block, parse_url
from stretto.pool.limits import Gate
from stretto.pool.pace import Pace
from stretto.pool.profiles import ASSUMED_ABILITIES, profile
from stretto.pool.repute import repute
from stretto.steps import Ask, Count, Emit, Endpoint, Outcome, Quote, Ready, Tally
from stretto.types import Card, Price
from stretto.wire import FORMATS, format_named

__all__ = ["Place", "Worker", "WorkerPool", "describe"]

DEFAULT_CAP: Final = 4096
"""Output tokens that a price rests on when neither the ask nor the card bounds them."""
_BUSY: Final = 0.05
_COUNT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker is served: at `base_url` with `api_key`, or here from a GGUF file at `gguf`.

    `name` is unique in the pool and shows in receipts and errors. `headers` are sent with each request beside the usual ones;
    like the key they are kept out of `repr`. `most` bounds the calls under way there.
    """

    name: str
    base_url: str = ""
    api_key: str = field(default="", repr=False)
    gguf: Path | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    most: int | None = None


_NO_RENAMES: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Worker:
    """A model that can be asked. Policies see its `card` alone.

    `model` is its name at the upstream; `lacks` are parameters that it does not know and that are dropped, `renames` those it
    knows by another name. `dense`: its tokeniser may take as much as a token a byte (small models that the project trains).
    """

    id: str
    model: str
    places: tuple[Place, ...]
    card: Card
    wire: str = "chat"
    lacks: frozenset[str] = frozenset()
    renames: Mapping[str, str] = field(default_factory=dict)
    dense: bool = False
    timeouts: Timeouts = Timeouts()


def describe(
    id: str,
    model: str,
    places: Sequence[Place],
    *,
    wire: str = "chat",
    price: Price | None = None,
    labels: Mapping[str, str] | None = None,
    abilities: frozenset[str] | None = None,
    context: int | None = None,
    max_output: int | None = None,
    description: str = "",
) -> Worker:
    """A worker by what its operator says, completed by the shipped profile of `model`.

    What is given wins. Without a price from either it counts as unpriced, unless it is served from a file.
    """
    known = profile(model)
    local = bool(places) and all(place.gguf is not None for place in places)
    if local and abilities is None:
        abilities = _abilities_of_file(places[0].gguf)
    found = price or (known.price if known is not None and not local else None)
    vendor = {"vendor": known.vendor} if known is not None and known.vendor and not local else {}
    card = Card(
        id=id,
        price=found or Price(),
        labels={**vendor, **(labels or {})},
        abilities=abilities or (known.abilities if known is not None else None) or ASSUMED_ABILITIES,
        context=context or (known.context if known is not None else None),
        max_output=max_output or (known.max_output if known is not None else None),
        description=description,
        priced=found is not None or local,
        repute=repute(model, found),
    )
    return Worker(id, model, tuple(places), card, wire, known.lacks if known is not None else frozenset())


def _abilities_of_file(path: Path | None) -> frozenset[str] | None:
    """What llama.cpp can do with a model file, by its head; `None` if that cannot be read (who asks the worker is told why)."""
    try:
        head = read_gguf_header(path or "")
    except LocalModelError:
        return None
    if not head.causal or head.pooling is not None:
        return frozenset({"embedding", "tokens"})
    return ASSUMED_ABILITIES | {"state", "tokens", "grammar"}


class WorkerPool:
    """A `steps.Pool` over real endpoints. For one event loop.

    `local` serves GGUF files. `clock` is a monotonic clock for cool-downs and ejections. Raises `ConfigError` for a worker that
    cannot be made, naming it.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        transport: Transport,
        *,
        local: LocalModels | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._local = local
        self._clock = clock
        self._workers = {worker.id: worker for worker in workers}
        if len(self._workers) < len(workers):
            raise ConfigError(f"two workers are called {_twice([worker.id for worker in workers])!r}")
        names = [place.name for worker in workers for place in worker.places]
        if len(set(names)) < len(names):
            raise ConfigError(f"two endpoints are called {_twice(names)!r}")
        self._cards = tuple([worker.card for worker in workers])
        self._lanes: dict[str, tuple[Lane, ...]] = {w.id: _lanes(w) for w in workers}
        self._by_name = {lane.endpoint.name: lane for lanes in self._lanes.values() for lane in lanes}
        self._alone = {
            id: Ready((lanes[0].endpoint,)) for id, lanes in self._lanes.items() if len(lanes) == 1
        }

    def cards(self) -> tuple[Card, ...]:
        """As `Pool.cards`."""
        return self._cards

    def workers(self) -> tuple[Worker, ...]:
        """The workers, in order."""
        return tuple(self._workers.values())

    def quote(self, ask: Ask) -> Quote:
        """As `Pool.quote`. Worst: input from above (`pool.estimate`), output by `max_tokens`, the card, or 4,096 tokens.

        Expected: as much input as that usually is, and as much output as the worker usually writes in this role
        (`Pace.expected`), never above that cap.
        """
        worker = self._workers.get(ask.worker)
        if worker is None:
            return Quote(0, 0, 0, 0, priced=False)
        card, pace = worker.card, self._lanes[worker.id][0].pace
        given = input_tokens(ask, worker.dense)
        cap = 0
        if ask.want not in ("embedding", "state"):
            cap = ask.max_tokens or card.max_output or DEFAULT_CAP
            if ask.max_tokens is None and card.context is not None:
                cap = min(cap, card.context)
        price = card.price
        worst = given * max(price.input, price.cached or 0) + cap * price.output
        written = round(pace.expected(ask.role, cap))
        expected = min(worst, usual_tokens(given, worker.dense) * price.input + written * price.output)
        seconds = 1.0 if pace.seconds is None else pace.seconds
        return Quote(expected, worst, given, cap, seconds, card.priced, written)

    def remember(self, worker: str, role: str, output: float, seconds: float) -> None:
        """How long the answers of a worker in a role have been before this process: expected until it tells otherwise."""
        if (lanes := self._lanes.get(worker)) is not None:
            lanes[0].pace.note(seconds, output, role)

    def learn(self, worker: str, output: float) -> None:
        """How long the answers were that something was learned from: expected where nobody remembers any."""
        if (lanes := self._lanes.get(worker)) is not None:
            lanes[0].pace.learned = output

    def candidates(self, ask: Ask) -> Ready:
        """As `Pool.candidates`: one that is due for a probe first, then by load; an ejected one only if there is no other."""
        lanes = self._lanes.get(ask.worker)
        if lanes is None:
            return Ready(reason=f"there is no worker {ask.worker!r}")
        if len(lanes) == 1 and lanes[0].health.clear:
            return self._alone[ask.worker]
        now = self._clock()
        fit: list[Lane] = []
        probes: list[Lane] = []
        out: list[Lane] = []
        cooling: list[Lane] = []
        into = {"fit": fit, "probe": probes, "ejected": out, "cooling": cooling}
        for lane in lanes:
            into[lane.health.standing(now)].append(lane)
        fit.sort(key=lambda lane: lane.load)
        for lane in probes[:1]:
            lane.health.offer(now)
        chosen = probes[:1] + fit
        # An endpoint that is out costs little to try when nobody else is there, unless it lets everybody wait.
        if not chosen and (quick := [lane for lane in out if lane.health.last != "timeout"]):
            chosen = [min(quick, key=lambda lane: lane.health.ejected_until)]
        if chosen:
            return Ready(tuple([lane.endpoint for lane in chosen]))
        if out:
            pause = min(lane.health.ejected_until for lane in out) - now
            reason = f"{ask.worker} has not answered in time, {FAILURES} times in a row"
            return Ready(retry_after=max(pause, _BUSY), reason=reason)
        if not cooling:
            return Ready(reason=f"{ask.worker} has no endpoint")
        pause = min(lane.health.cooled_until for lane in cooling) - now
        reason = f"every endpoint of {ask.worker} is rate limited"
        return Ready(retry_after=max(pause, _BUSY), reason=reason, kind="rate_limited")

    async def count(self, ask: Ask, *, warm: bool = False) -> Count:
        """As `Pool.count`: exact for local files and for servers that are known to be llama.cpp, if they tell in two seconds."""
        worker = self._workers.get(ask.worker)
        if worker is None:
            return Count(0, False)
        counting = (lane for lane in self._lanes[worker.id] if lane.counts)
        lane = next((lane for lane in counting if not (warm and lane.cold)), None)
        if lane is not None and ask.want != "embedding":
            deadline = asyncio.get_running_loop().time() + _COUNT_SECONDS
            found = await count(lane, ask, self._transport, self._local, deadline)
            if found is not None:
                return Count(found, True)
        return Count(input_tokens(ask, worker.dense), False)

    def attempt(
        self, ask: Ask, endpoint: Endpoint, *, deadline: float | None, tally: Tally, emit: Emit | None
    ) -> Coroutine[Any, Any, Outcome]:
        """As `Pool.attempt`."""
        return attempt(
            self._by_name[endpoint.name],
            ask,
            self._transport,
            self._local,
            self._clock,
            deadline=deadline,
            tally=tally,
            emit=emit,
        )


def _twice(names: Sequence[str]) -> str:
    return next(name for index, name in enumerate(names) if name in names[:index])


_OPENAI_NAMES: Final[Mapping[str, str]] = {"max_tokens": "max_completion_tokens"}


def _lanes(worker: Worker) -> tuple[Lane, ...]:
    """What the pool needs of each of a worker's places, checked."""
    form = format_named(worker.wire)
    if form is None:
        known = ", ".join(each.NAME for each in FORMATS)
        raise ConfigError(f"worker {worker.id!r}: wire {worker.wire!r} is not known; there is {known}")
    if not worker.places:
        raise ConfigError(f"worker {worker.id!r} has no endpoint: give base_url or path")
    pace = Pace()
    lanes = []
    for place in worker.places:
        fields = {"content-type": "application/json", **{k.lower(): v for k, v in place.headers.items()}}
        for name, value in form.credentials(place.api_key).items():
            fields.setdefault(name, value)
        renames: Mapping[str, str] = worker.renames
        try:
            origin, base = (None, b"/v1") if place.gguf is not None else parse_url(place.base_url)
            headers = header_block(fields.items())
        except ValueError as error:
            raise ConfigError(f"worker {worker.id!r}, endpoint {place.name!r}: {error}") from None
        if (
            not renames
            and origin is not None
            and origin.host.endswith(("api.openai.com", ".openai.azure.com"))
        ):
            renames = _OPENAI_NAMES  # newer models there refuse the old name
        lanes.append(
            Lane(
                Endpoint(place.name, worker.id, place.labels),
                form,
                worker.model,
                worker.card,
                headers,
                place.api_key,
                origin,
                base,
                place.gguf,
                worker.lacks,
                renames,
                worker.dense,
                worker.timeouts,
                pace,
                Gate(place.most) if place.most is not None else None,
            )
        )
    return tuple(lanes)
