"""Shadow runs: a candidate policy answers some requests once more, after their callers have their answers.

It plays through the same engine and the same door, under the same limits and constraints as the caller's run, but on an
account of its own with a ceiling a day; nobody waits for it, and nobody but the ledger sees what it says. What must not happen
twice is never repeated: see `repeatable`.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final, Protocol

from stretto.engine.run import Engine, Run
from stretto.errors import StrettoError
from stretto.gateway.settings import Shadow
from stretto.steps import Policy
from stretto.types import Key, Request, derive_seed
from stretto.wire.base import Incoming

__all__ = ["ACCOUNT", "PURPOSE", "Names", "Shadows", "repeatable"]

ACCOUNT: Final = "shadow"
"""The id and name of the key that shadow runs are charged to. Nobody has its secret."""

PURPOSE: Final = "shadow"

_OURS: Final = frozenset(("function", "custom", "namespace"))
"""Tools that the caller runs, or nobody: any other is run by a provider, with whatever that brings about."""

_ACTING: Final = frozenset(("mcp_servers", "web_search_options", "container"))
"""Fields of requests by which a provider acts in the caller's name."""

_REST: Final = 10.0
_LONGEST: Final = 3600.0
"""Seconds without a shadow run after one that the ceiling refused (others under way may have held what was left): the double
each time, until one is played out again."""

_log = logging.getLogger("stretto.shadow")


class Names(Protocol):
    """Where a policy is found by its name (`gateway.inference.Catalog`)."""

    def resolve(self, name: str) -> Policy:
        """The policy of a name. Raises `UnknownModel`."""
        ...


def repeatable(incoming: Incoming, request: Request) -> bool:
    """Whether a request may be answered a second time.

    Not if its caller forbids keeping it (`store: false`), if it wants something else than text, if it goes on from a call of a
    tool (which belongs to the worker that made it), or if a provider would run tools for it: they may act.
    """
    if incoming.more.get("store") is False or request.extra.get("store") is False:
        return False
    if request.want != "text" or request.continues is not None or not _ACTING.isdisjoint(request.extra):
        return False
    return all(tool.get("type", "function") in _OURS for tool in request.tools) and not any(
        m.tool_calls or m.role == "tool" for m in request.messages
    )


class Shadows:
    """Those of one process. `clock` gives Unix seconds. Without settings there are none."""

    def __init__(
        self,
        engine: Engine,
        names: Names,
        settings: Shadow | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._names = names
        self._settings = settings
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: Counter[str] = Counter()
        self._resting_until, self._rest = 0.0, _REST
        self._closed = False

    def after(
        self, run: Run, incoming: Incoming, request: Request, key: Key | None
    ) -> Callable[[], None] | None:
        """What to do once the answer of a settled run has been sent: `None` where there is to be no shadow run.

        Who is drawn depends on the run's id alone, so it can be told afterwards.
        """
        wanted = self._settings
        if wanted is None or run.policy != wanted.of or run.answer.error is not None:
            return None
        drawn = Random(derive_seed(None, run.id, PURPOSE)).random() < wanted.share
        if not drawn or not repeatable(incoming, request):
            return None
        return partial(self._begin, wanted, run.id, request, key)

    def _begin(self, wanted: Shadow, beside: str, request: Request, key: Key | None) -> None:
        if self._closed:
            return
        if self._clock() < self._resting_until:
            self._told["ceiling"] += 1
        elif len(self._tasks) >= wanted.at_once:
            self._told["dropped"] += 1
        else:
            task = asyncio.get_running_loop().create_task(self._play(wanted, beside, request, key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _play(self, wanted: Shadow, beside: str, request: Request, key: Key | None) -> None:
        """One shadow run, whatever comes of it: it must never be anybody's trouble."""
        account = Key(ACCOUNT, ACCOUNT, frozenset(), day=wanted.day)
        if key is not None:  # where its caller's key may not go, the shadow may not go either
            account = Key(
                ACCOUNT, ACCOUNT, frozenset(), day=wanted.day, require=key.require, exclude=key.exclude
            )
        try:
            policy = self._names.resolve(wanted.policy)
            run = await self._engine.run(
                policy, request, name=wanted.policy, key=account, purpose=PURPOSE, beside=beside
            )
        except asyncio.CancelledError:
            self._told["cancelled"] += 1
            raise
        except StrettoError as error:
            self._told["failed"] += 1
            _log.warning("no shadow run beside %s: %s", beside, error)
            return
        except Exception:
            # the same boundary as around a call: a defect in a candidate must not reach who serves
            self._told["failed"] += 1
            _log.exception("the shadow run beside %s broke", beside)
            return
        failure = run.answer.error
        if failure is not None and failure.kind == "limit" and f"key {ACCOUNT!r}" in failure.message:
            self._told["ceiling"] += 1
            self._resting_until, self._rest = self._clock() + self._rest, min(_LONGEST, 2 * self._rest)
            _log.info("no shadow runs for a while: %s", failure.message)
        else:
            self._rest = _REST
            self._told["ok" if failure is None else "failed"] += 1

    async def settled(self) -> None:
        """Wait until none is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """End those under way; what they have consumed is recorded. None begins any more."""
        self._closed = True
        for task in tuple(self._tasks):
            task.cancel()
        await self.settled()

    def text(self) -> list[str]:
        """Lines for GET /metrics."""
        if self._settings is None:
            return []
        name = "stretto_shadow_runs_total"
        return [
            f"# HELP {name} Runs of the candidate policy beside those that serve, by what came of them.",
            f"# TYPE {name} counter",
            *(f'{name}{{outcome="{outcome}"}} {n}' for outcome, n in sorted(self._told.items())),
        ]
