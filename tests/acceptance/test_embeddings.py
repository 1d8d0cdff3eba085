"""Embeddings and legacy completions with the unmodified OpenAI SDK, over the real llama.cpp: vectors, receipts, ceilings."""

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.acceptance.served import Served, command, make_key, served
from tests.tiny_gguf import WIDTH, tiny_gguf

CONFIG = """
[pool]
discover = false
sparring = true

[[worker]]
id = "vectors"
path = "tiny.gguf"
abilities = ["embedding", "tokens"]
price = { input = 1.0, output = 0.0 }

[policy.embedder]
type = "solo"
worker = "vectors"
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway with the sparring models and a local model that embeds."""
    home = tmp_path_factory.mktemp("home")
    tiny_gguf(home / "tiny.gguf")
    with served(home, CONFIG) as it:
        asyncio.run(it.started())
        yield it
        assert it.stop() == 0
        assert "Traceback" not in it.told()


@pytest.fixture(scope="module")
def client(gateway: Served) -> Iterator[openai.OpenAI]:
    """The SDK as people use it."""
    with openai.OpenAI(base_url=gateway.base_url, api_key="none", max_retries=0) as it:
        yield it


def receipt_of(client: openai.OpenAI, answer: Any) -> dict[str, Any]:
    """The receipt of an answer."""
    return client.get(answer.model_extra["stretto"]["receipt"].removeprefix("/v1"), cast_to=dict[str, Any])


def test_packed_and_plain_vectors_are_the_same(client: openai.OpenAI) -> None:
    """The SDK's own base64 and plain numbers bring the same unit vectors, one for each text, in one priced and recorded call."""
    texts = ["one", "two", "three"]
    packed = client.embeddings.create(model="vectors", input=texts)
    plain = client.embeddings.create(model="vectors", input=texts, encoding_format="float")

    assert [item.index for item in packed.data] == [0, 1, 2]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert len(one.embedding) == WIDTH
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert math.hypot(*one.embedding) == pytest.approx(1.0, abs=1e-5)
    assert packed.data[0].embedding != packed.data[1].embedding
    assert packed.model == "vectors"

    receipt = receipt_of(client, packed)
    (attempt,) = receipt["attempts"]
    assert (attempt["want"], attempt["role"], attempt["outcome"]) == ("embedding", "embedder", "answered")
    assert attempt["usage"]["input"] == packed.usage.prompt_tokens == packed.usage.total_tokens > 0
    assert receipt["cost_pico"] == packed.usage.prompt_tokens * 10**6
    assert receipt["consistent"]


def test_token_ids_stand_for_their_text(client: openai.OpenAI) -> None:
    """A worker with the ability `tokens` takes ids of its own tokeniser, alone or several lists of them."""
    several = client.embeddings.create(model="embedder", input=[[324, 325], [326]])
    alone = client.embeddings.create(model="embedder", input=[324, 325])
    assert several.usage.prompt_tokens == 3
    assert several.data[0].embedding == pytest.approx(alone.data[0].embedding, abs=1e-6)


def test_replay_brings_the_vectors_back(client: openai.OpenAI) -> None:
    """A run's vectors come from its record, without a call."""
    first = client.embeddings.create(model="vectors", input="again", encoding_format="float")
    run = first.model_extra["stretto"]["run_id"] if first.model_extra else ""
    again = client.post(f"/runs/{run}/replay", body={}, cast_to=dict[str, Any])
    assert again["data"][0]["embedding"] == first.data[0].embedding
    assert again["stretto"]["replay"] is True


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"model": "string-north", "input": "x"}, "string-north.*cannot do embedding"),
        ({"model": "route", "input": "x"}, "one worker, not 'route'. These embed: vectors"),
        ({"model": "string-north", "input": [1, 2]}, "cannot do embedding, tokens"),
        ({"model": "vectors", "input": ""}, "empty"),
        ({"model": "nobody", "input": "x"}, "no model"),
    ],
)
def test_refusals_say_why(client: openai.OpenAI, fields: dict[str, Any], says: str) -> None:
    """A worker that does not embed, a policy that chooses, an empty text: told before anything is called."""
    with pytest.raises(openai.APIStatusError, match=says) as caught:
        client.embeddings.create(**fields)
    assert caught.value.status_code in (400, 404)


def test_a_length_that_the_model_cannot_give_is_told(client: openai.OpenAI) -> None:
    """`dimensions` is obeyed or refused, never passed over."""
    assert (
        len(client.embeddings.create(model="vectors", input="x", dimensions=WIDTH).data[0].embedding) == WIDTH
    )
    with pytest.raises(openai.APIStatusError, match="8 dimensions were asked for, the model gives 32"):
        client.embeddings.create(model="vectors", input="x", dimensions=8)


def test_an_embedding_worker_is_not_asked_for_text(client: openai.OpenAI) -> None:
    """Text goes to those who write it, whatever they cost."""
    answer = client.chat.completions.create(
        model="route",
        messages=[{"role": "user", "content": "Spell the word planet backward."}],
        temperature=0,
    )
    assert answer.choices[0].message.content == "tenalp"
    with pytest.raises(openai.BadRequestError, match=r"vectors.*cannot do text"):
        client.chat.completions.create(model="vectors", messages=[{"role": "user", "content": "x"}])


def test_a_ceiling_holds_for_vectors_too(gateway: Served, client: openai.OpenAI) -> None:
    """A limit of the request refuses the call before it is made, and what was spent is what the receipt says."""
    with pytest.raises(openai.RateLimitError, match="limit"):
        client.embeddings.create(
            model="vectors", input="x" * 400, extra_body={"stretto": {"limits": {"usd": 1e-9}}}
        )
    answer = client.embeddings.create(
        model="vectors", input="x", extra_body={"stretto": {"limits": {"usd": 1e-4}}}
    )
    assert receipt_of(client, answer)["left"]["usd"] == pytest.approx(
        1e-4 - answer.usage.prompt_tokens * 1e-6
    )


@pytest.mark.parametrize("model", ["string-north", "route", "cascade", "fuse"])
def test_legacy_completions_through_every_policy(client: openai.OpenAI, model: str) -> None:
    """A prompt is answered plain and as a stream, whoever answers it."""
    asked: dict[str, Any] = {"model": model, "prompt": "Spell the word planet backward.", "temperature": 0}
    answer = client.completions.create(**asked)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("tenalp", "stop")
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert receipt_of(client, answer)["status"] == "finished"
    chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "tenalp"
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [
        "stop"
    ]
    assert chunks[-1].usage is not None
    assert chunks[-1].choices == []


def test_legacy_completions_echo_and_count(client: openai.OpenAI) -> None:
    """`echo` puts the prompt first; `logprobs` come in the old shape, `max_tokens` cuts."""
    prompt = "Spell the word planet backward."
    answer = client.completions.create(
        model="string-north", prompt=prompt, echo=True, logprobs=2, max_tokens=3, temperature=0
    )
    choice = answer.choices[0]
    assert choice.text == prompt + "ten"
    assert choice.finish_reason == "length"
    assert choice.logprobs is not None
    assert choice.logprobs.tokens == ["t", "e", "n"]
    assert choice.logprobs.text_offset == [len(prompt), len(prompt) + 1, len(prompt) + 2]
    assert choice.logprobs.top_logprobs is not None
    assert all(token in top for token, top in zip("ten", choice.logprobs.top_logprobs, strict=True))


def test_a_key_pays_for_its_vectors(gateway: Served) -> None:
    """What a key's embeddings cost counts against its ceiling, to the last token."""
    _, secret = make_key(gateway, "embeds", "--total", "0.01")
    with openai.OpenAI(base_url=gateway.base_url, api_key=secret, max_retries=0) as client:
        used = sum(
            client.embeddings.create(model="vectors", input=f"text {i}").usage.prompt_tokens for i in range(5)
        )
    listed = command(gateway, "keys", "list")
    entry = next(
        key for key in (listed["data"] if isinstance(listed, dict) else listed) if key["name"] == "embeds"
    )
    assert "spent" in str(entry)
    assert used > 0
