"""OpenAI's and Anthropic's Python clients through every policy: chat, streams, tools, structured output, tool loops.

The same program that `python -m bench.clients.sdks` runs, with many more clients. Most of it here has scripted upstreams,
of all three wires; the real llama.cpp answers through one policy.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from bench.clients.sdks_cases import FEATURES, Case
from bench.clients.sdks_gateways import LLAMA, POLICIES, SCRIPTED, llama_config, scripted_config, wanted
from bench.clients.sdks_vendors import AnthropicMessages, OpenAIChat, OpenAIResponses
from tests.acceptance.served import Served, served
from tests.acceptance.speakers import Speakers, speakers

Client = type[OpenAIChat] | type[OpenAIResponses] | type[AnthropicMessages]


class Aside:
    """An upstream on a thread of its own, for clients that block."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.stack = AsyncExitStack()
        self.it: Speakers = asyncio.run_coroutine_threadsafe(
            self.stack.enter_async_context(speakers()), self.loop
        ).result()

    def close(self) -> None:
        """Stop it."""
        asyncio.run_coroutine_threadsafe(self.stack.aclose(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Speakers]]:
    """A real gateway in front of the tame upstream."""
    aside = Aside()
    try:
        with served(tmp_path_factory.mktemp("clients"), scripted_config(aside.it.base_url)) as it:
            asyncio.run(it.started())
            yield it, aside.it
            assert it.stop() == 0
            assert "Traceback" not in it.told()
    finally:
        aside.close()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real gateway over the real llama.cpp."""
    home = tmp_path_factory.mktemp("llama")
    with served(home, llama_config(home)) as it:
        asyncio.run(it.started())
        yield it
        assert it.stop() == 0


def put_through(client: Client, feature: str, case: Case) -> None:
    """One feature, on a client of its own."""
    made = client(case)
    try:
        getattr(made, feature)()
    finally:
        made.client.close()


def case_of(gateway: Served, upstream: str, policy: str, feature: str) -> Case:
    """The cell of a policy."""
    base = gateway.base_url.removesuffix("/v1")
    return next(case for case in wanted(upstream, base, feature) if case.policy == policy)


@pytest.mark.parametrize("policy", POLICIES[SCRIPTED])
@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("client", [OpenAIChat, OpenAIResponses, AnthropicMessages])
def test_a_client_gets_what_it_is_made_for(
    gateway: tuple[Served, Speakers], client: Client, feature: str, policy: str
) -> None:
    """Whatever answers behind it, each client finds texts, calls, schemas and loops as its vendor gives them.

    And no upstream is sent what its vendor would refuse: results follow their calls, under ids of that worker's own.
    """
    it, upstream = gateway
    before = len(upstream.wrong)
    put_through(client, feature, case_of(it, SCRIPTED, policy, feature))
    assert upstream.wrong[before:] == []


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("client", [OpenAIChat, AnthropicMessages])
def test_llama_cpp_calls_and_obeys_schemas(llama: Served, client: Client, feature: str) -> None:
    """A panel of local models: calls and schemas are forced by llama.cpp's grammar, a tool chosen by name is the one called."""
    put_through(client, feature, case_of(llama, LLAMA, "fuse", feature))
