"""Zero configuration: what is found in an environment and on a machine."""

import asyncio
from collections.abc import Mapping

import pytest

from stretto.pool.discover import Found, discover, http_probe
from stretto.pool.http import HttpClient
from stretto.pool.worker import WorkerPool
from stretto.types import Price
from tests.unit.pool.upstream import Says, answer, upstream


def find(
    environ: Mapping[str, str] | None = None, servers: Mapping[int, tuple[str, ...]] | None = None
) -> Found:
    async def probe(base_url: str) -> tuple[str, ...] | None:
        assert base_url.startswith("http://127.0.0.1:")
        return (servers or {}).get(int(base_url.split(":")[2].partition("/")[0]))

    return asyncio.run(discover(environ or {}, probe))


def test_nothing_there() -> None:
    """No keys and no servers make no workers and nothing to announce."""
    assert find({"PATH": "/bin", "OPENAI_API_KEY": "  "}) == Found()


def test_keys_make_workers() -> None:
    """Each provider key brings that provider's usual models, with price, place and a line that does not show the key."""
    keys = {"OPENAI_API_KEY": "sk-one", "ANTHROPIC_API_KEY": "sk-two", "GEMINI_API_KEY": "sk-three"}
    found = find(keys)
    assert {worker.card.labels["vendor"] for worker in found.workers} == {"openai", "anthropic", "google"}
    assert all(worker.card.priced for worker in found.workers)
    assert len(found.announcements) == 3
    assert not any("sk-" in line for line in (*found.announcements, repr(found)))
    assert "OpenAI-compatible" in found.announcements[1]
    WorkerPool(found.workers, HttpClient())


ALL = ("OPENAI", "ANTHROPIC", "GEMINI", "MISTRAL", "DEEPSEEK", "XAI", "GROQ", "TOGETHER", "OPENROUTER")


def test_all_keys_together() -> None:
    """All providers at once still make one pool: ids and places are unique, and models without a price are named."""
    found = find({f"{name}_API_KEY": "k" for name in ALL})
    WorkerPool(found.workers, HttpClient())
    ids = [worker.id for worker in found.workers]
    assert "gpt-oss-120b" in ids
    assert "together/gpt-oss-120b" in ids
    unpriced = [worker.id for worker in found.workers if not worker.card.priced]
    assert unpriced
    assert all(any(id in line and "price" in line for line in found.announcements) for id in unpriced)


def test_local_servers_make_free_workers() -> None:
    """What local servers list can be asked for free; the same name at two servers is told apart."""
    found = find({"OPENAI_API_KEY": "k"}, {11434: ("gpt-5.6-sol", "llama3.2"), 8000: ("llama3.2",), 1234: ()})
    by_id = {worker.id: worker for worker in found.workers}
    assert {"ollama/gpt-5.6-sol", "llama3.2", "vllm/llama3.2"} < set(by_id)
    local = by_id["ollama/gpt-5.6-sol"]
    assert (local.model, local.card.price, local.card.priced) == ("gpt-5.6-sol", Price(), True)
    assert local.card.labels["host"] == "local"
    assert "LM Studio at http://127.0.0.1:1234/v1: no models" in found.announcements
    WorkerPool(found.workers, HttpClient())


def test_long_lists_are_cut() -> None:
    """Of a server with very many models the first ones are taken, and the line says how many more there are."""
    found = find(servers={11434: tuple(f"m{i}" for i in range(40))})
    assert len(found.workers) == 16
    assert "and 24 more" in found.announcements[0]


@pytest.mark.parametrize(
    ("says", "models"),
    [
        (answer({"data": [{"id": "a"}, {"id": "b"}, {"id": 5}, "x"]}), ("a", "b")),
        (answer({"data": []}), ()),
        (answer({"data": [{"id": "stretto", "owned_by": "stretto"}]}), None),
        (answer({"models": []}), None),
        (answer(b"<html>", kind="text/html"), None),
        (answer({}, 404), None),
        (Says(b"", "hang"), None),
        (Says(b"", "reset"), None),
    ],
)
def test_probe(says: Says, models: tuple[str, ...] | None) -> None:
    """The probe lists a model server's models, and takes nothing else for one: no web page, no silence, no Stretto."""

    async def run() -> tuple[str, ...] | None:
        client = HttpClient()
        try:
            async with upstream(says) as server:
                found = await http_probe(client, 0.1)(server.base_url)
                assert server.requests[0].startswith(b"GET /v1/models ")
                return found
        finally:
            await client.close()

    assert asyncio.run(run()) == models


def test_probe_of_a_closed_port() -> None:
    """Nobody there is an answer too."""

    async def run() -> tuple[str, ...] | None:
        client = HttpClient()
        async with upstream(answer({})) as server:
            url = server.base_url
        try:
            return await http_probe(client)(url)
        finally:
            await client.close()

    assert asyncio.run(run()) is None
