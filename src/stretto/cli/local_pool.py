"""The sparring models alone, for trainings: no ledger, no gateway, as many calls as the training likes."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stretto.learning.replies import Replies
    from stretto.pool.worker import WorkerPool

__all__ = ["replies", "sparring_pool", "states"]


@asynccontextmanager
async def sparring_pool(data: Path, extra: Mapping[str, Path] | None = None) -> AsyncIterator["WorkerPool"]:
    """The shipped models behind llama.cpp, whose process lives in `data`; `extra` are further workers by id and GGUF file."""
    from stretto.pool.http import HttpClient
    from stretto.pool.local import LlamaRuntime
    from stretto.pool.worker import Place, Worker, WorkerPool, describe
    from stretto.sparring import entries

    workers = [
        Worker(
            e.id, e.id, (Place(f"{e.id}/local", gguf=e.path, labels={"host": "local"}),), e.card, dense=True
        )
        for e in entries()
    ]
    for name, path in (extra or {}).items():
        workers.append(describe(name, name, [Place(f"{name}/local", gguf=path)]))
    transport, local = HttpClient(), LlamaRuntime(data)
    try:
        yield WorkerPool(workers, transport, local=local)
    finally:
        await local.close()
        await transport.close()


@contextmanager
def replies(path: Path, data: Path, tick: Callable[[str], None] = lambda worker: None) -> Iterator["Replies"]:
    """The kept replies of the sparring models in `path`; what is missing there is asked of them."""
    from stretto.learning.replies import Replies, asking
    from stretto.sparring import entries

    known = entries()
    hashes, prices = {e.id: e.sha256 for e in known}, {e.id: e.card.price for e in known}
    with asking(lambda: sparring_pool(data)) as ask:
        yield Replies(path, hashes, ask, prices=prices, tick=tick)


@contextmanager
def states(
    path: Path, pooling: str, data: Path
) -> Iterator[Callable[[Sequence[str]], list[tuple[float, ...]]]]:
    """What gives the hidden states of raw texts that llama.cpp has with this GGUF file."""
    from stretto.learning.replies import asking

    with asking(lambda: sparring_pool(data, {"backbone": path}), pooling=pooling) as ask:
        yield lambda texts: [said.state for said in ask([("backbone", text) for text in texts])]
