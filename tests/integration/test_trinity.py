"""TRINITY whole: under random failures and limits, left and resumed at any point, and over HTTP with real models as backbone."""

import asyncio
import hashlib
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")

from stretto import artifacts  # noqa: E402
from stretto.app import open_world  # noqa: E402
from stretto.artifacts import Artifact, packed  # noqa: E402
from stretto.config import parse  # noqa: E402
from stretto.engine.run import Engine  # noqa: E402
from stretto.ledger.events import Opened  # noqa: E402
from stretto.policies.coordinator import TRINITY_SCHEMA  # noqa: E402
from stretto.policies.trinity import Trinity  # noqa: E402
from stretto.sparring.pool import entries  # noqa: E402
from stretto.steps import Outcome  # noqa: E402
from stretto.types import Card, Failure, Limits, Price, Usage, derive_seed  # noqa: E402
from tests.asgi import Exchange  # noqa: E402
from tests.trinity_world import trinity  # noqa: E402
from tests.unit.engine.doubles import ListStore, says  # noqa: E402
from tests.unit.engine.test_adversarial import KEY, Bytes, check, request  # noqa: E402
from tests.unit.engine.test_run import Purse  # noqa: E402

some = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

ABLE = frozenset({"text", "tools", "json"})
TEXTS = ("yes", "no", "done", "7", "<suggestion>so</suggestion><suggested_role>verifier</suggested_role>")

policies = st.builds(
    lambda forms, verifier, turns, roles, sample, otherwise, ends: trinity(
        forms=forms,
        verifier=verifier,
        turns=turns,
        roles=roles,
        sample=sample,
        otherwise=otherwise,
        done_ends=ends,
        observation={"tells": "forms"} if forms == "given" else {},
    ),
    st.sampled_from(["given", "tagged"]),
    st.sampled_from(["verdict", "agreement"]),
    st.sampled_from([1, 2, 5]),
    st.sampled_from([True, False, ("worker", "verifier")]),
    st.booleans(),
    st.sampled_from(["", "c"]),
    st.booleans(),
)


class Still(random.Random):
    """No jitter."""

    def uniform(self, a: float, b: float) -> float:
        """Nothing."""
        return 0.0


def world(
    chance: random.Random, store: ListStore, purse: Purse | None = None, *, long: bool = False
) -> Engine:
    """Workers and a backbone whose replies follow from what they are asked, after some turns of the loop; some fail."""

    async def attempt(ask: Any, endpoint: Any, number: int) -> Outcome:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        told = "".join(m.text for m in ask.messages)
        fate = random.Random(derive_seed(11, ask.worker, told, chance.random() if long else 0))
        given = sum(len(m.text.encode()) for m in ask.messages)
        if ask.want == "state":
            if fate.random() < 0.1:
                return Outcome(usage=Usage(2, 0), error=Failure("unavailable", "gone"))
            return says("", input=given, output=0, state=tuple(3 * fate.random() for _ in range(6)))
        if fate.random() < 0.25:
            return Outcome(usage=Usage(2, 0), error=Failure("overloaded", "so"), retryable=long)
        if long:
            text = fate.choice([*TEXTS, "\N{MATHEMATICAL BOLD SMALL A}" * 30_000])
            return says(text, input=given, output=ask.max_tokens or 4000)
        return says(fate.choice(TEXTS), input=5, output=min(ask.max_tokens or 10, 3))

    pool = Bytes(attempt, price=Price(1, 3), places={w: (f"{w}/1", f"{w}/2") for w in "abc"})
    backbone = Card("coordinator", Price(2, 0), {"role": "coordinator"}, frozenset({"text", "state"}))
    pool._cards = (*(Card(w, Price(1, 3), {}, ABLE) for w in "abc"), backbone)
    return Engine(pool, store, purse, clock=lambda: 5.0, jitter=Still())


# --- through the engine ---


@some
@given(
    policy=policies,
    seed=st.integers(0, 9999),
    usd=st.sampled_from([None, 10_000, 60_000]),
    calls=st.sampled_from([None, 0, 1, 2, 3, 7]),
)
def test_every_record_adds_up_and_replays_to_the_same_answer(
    policy: Trinity, seed: int, usd: int | None, calls: int | None
) -> None:
    """Whatever fails and whichever limit ends it: one answer, one sum, no limit passed, and a replay without a call."""
    store, purse, limits = ListStore(), Purse(10**9), Limits(usd=usd, calls=calls)
    engine = world(random.Random(seed), store, purse)
    run = asyncio.run(engine.run(policy, request(limits), key=KEY))
    check(store, run.id, purse, limits)
    again = asyncio.run(engine.replay(run.id, policy))
    assert again.answer == run.answer
    assert (again.usage, again.cost, again.calls, again.missing) == (run.usage, run.cost, run.calls, ())


@settings(some, max_examples=20)
@given(policy=policies, seed=st.integers(0, 9999))
def test_a_run_resumes_from_every_cut_to_the_same_answer(policy: Trinity, seed: int) -> None:
    """The record cut after any event: what is on it is not asked again."""
    whole = ListStore()
    run = asyncio.run(world(random.Random(seed), whole).run(policy, request(Limits())))
    opened = next(i for i, e in enumerate(whole.written) if isinstance(e, Opened))
    for cut in range(opened + 1, len(whole.written) + 1):
        store = ListStore()
        store.append(whole.written[:cut])
        kept = {e.at for e in store.written if e.kind == "answered" and e.final}
        resumed = asyncio.run(world(random.Random(seed + cut), store).resume(run.id, policy))
        assert resumed.answer == run.answer
        assert not kept & {e.at for e in store.written[cut:] if e.kind == "asked"}


@some
@given(policy=policies, seed=st.integers(0, 9999), turns=st.integers(1, 60))
def test_a_run_that_is_left_at_any_turn_of_the_loop_adds_up(policy: Trinity, seed: int, turns: int) -> None:
    """The caller leaves: no task is left over, every intent has an outcome, nothing stays held, and it can be resumed."""
    store, purse = ListStore(), Purse(10**9)

    async def leave() -> None:
        engine = world(random.Random(seed), store, purse)
        task = asyncio.create_task(engine.run(policy, request(Limits()), key=KEY, run_id="run_1"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(leave())
    check(store, "run_1", purse, Limits())
    resumed = asyncio.run(world(random.Random(seed), store, purse).resume("run_1", policy, key=KEY))
    check(store, "run_1", purse, Limits())
    assert resumed.calls >= 1


@some
@given(
    policy=policies,
    seed=st.integers(0, 9999),
    barred=st.sampled_from([(), ("a",), ("b", "c"), ("a", "b", "c")]),
)
def test_no_run_takes_more_than_its_outlooks_most(
    policy: Trinity, seed: int, barred: tuple[str, ...]
) -> None:
    """Money and calls, with retries, failures and replies as long as they may be (each sign four bytes)."""
    engine = world(random.Random(seed), ListStore(), long=True)
    question = replace(request(Limits()), exclude={"worker": barred})
    outlook = engine.preview(policy, question).outlook
    run = asyncio.run(engine.run(policy, question))
    assert run.calls <= outlook.calls.most
    assert run.cost <= outlook.usd.most
    assert outlook.usd.least <= outlook.usd.expected <= outlook.usd.most
    assert outlook.calls.least <= outlook.calls.expected <= outlook.calls.most


# --- over HTTP, with real models ---

MODELS = {entry.id: entry.path for entry in entries()}
WORKERS = ("thinker-north", "string-north", "words-south")


def artefact(folder: Path, **data: Any) -> Path:
    """A coordinator on a real backbone, which it brings along: untrained, so that sampling is by lot."""
    backbone = folder / "coordinator.gguf"
    shutil.copyfile(MODELS["thinker-north"], backbone)
    own = {
        "workers": list(WORKERS),
        "head": {"kind": "linear", "weight": packed(np.zeros((6, 128)))},
        "observation": {"tells": "forms", "frame": " {text}", "lower": True, "spaced": [["\n", " \n "]]},
        "able": {"thinker": ["thinker-north"], "worker": ["string-north", "words-south"]},
        "forms": "given",
        "temperature": 0,
        "thinker_tokens": 100,
        "verifier": "agreement",
        "sample": True,
        "beside": [
            {
                "id": "coordinator",
                "file": "coordinator.gguf",
                "sha256": hashlib.sha256(backbone.read_bytes()).hexdigest(),
                "role": "coordinator",
                "context": 2048,
                "price": {"input": 0.1, "output": 0.1},
            }
        ],
    }
    artifacts.write(Artifact(TRINITY_SCHEMA, {"from": "a test"}, own | data), folder / "trinity.json")
    return folder / "trinity.json"


def config(folder: Path) -> str:
    """Three shipped models, and a policy each with and without roles."""
    artefact(folder)
    workers = "".join(
        f'[[worker]]\nid = "{name}"\npath = "{MODELS[name]}"\nprice = {{ input = 1, output = 2 }}\n'
        f'labels = {{ role = "{"thinker" if "thinker" in name else "solver"}" }}\n'
        for name in WORKERS
    )
    return f"""
[server]
data = "data"
{workers}
[policy.three]
type = "trinity"
artifact = "trinity.json"
alone = 1

[policy.one]
type = "trinity"
artifact = "trinity.json"
roles = false
turns = 1
alone = 1

[policy.usual]
type = "trinity"
artifact = "trinity.json"
"""


def test_over_http_the_receipt_shows_every_turn_and_its_chances(tmp_path: Path) -> None:
    """Real states, real workers: an answer, recorded chances, limits that hold, and a stream where one may be."""
    file = tmp_path / "stretto.toml"
    file.write_text(config(tmp_path))

    async def post(world: Any, path: str = "/v1/chat/completions", **body: Any) -> Exchange:
        asked = {"messages": [{"role": "user", "content": "Spell planet backward."}], **body}
        sent = {"content-type": "application/json"}
        return await Exchange(world.gateway(), "POST", path, json.dumps(asked).encode(), sent).run()

    async def scene() -> None:
        async with open_world(parse(file.read_text(), file=str(file))) as world:
            done = await post(world, model="three", stretto={"seed": 4})
            assert done.status == 200, done.body
            told = done.json["stretto"]
            assert done.json["choices"][0]["message"]["content"]
            receipt = (await Exchange(world.gateway(), "GET", f"/v1/runs/{told['run_id']}").run()).json
            attempts = receipt["attempts"]
            assert attempts[0]["worker"].startswith("coordinator")  # the shipped one has the plain name
            assert attempts[0]["role"] == "router"
            assert len(attempts) == told["calls"]
            text = json.dumps(receipt)
            assert '"chance"' in text
            assert "turn 1 of at most 5" in text

            short = await post(world, model="three", stretto={"seed": 4, "limits": {"calls": 2}})
            assert short.status == 200
            assert short.json["stretto"]["calls"] == 2

            live = await post(world, model="one", stream=True, stretto={"seed": 1})
            assert live.status == 200
            rows = [line[6:] for line in live.body.decode().splitlines() if line.startswith("data: {")]
            pieces = [json.loads(row)["choices"][0]["delta"].get("content") for row in rows]
            said = [piece for piece in pieces if piece]
            assert "".join(said) == "tenalp"
            assert len(said) > 1

            # where the shipped table knows who is right, nobody plans: one call, which streams
            question = [{"role": "user", "content": "Spell planet backward."}]
            found = (await post(world, "/v1/plans", model="usual", messages=question)).json
            assert found["outlook"]["calls"]["expected"] < 1.1
            live = await post(world, model="usual", stream=True, stretto={"seed": 1})
            pieces = [
                line for line in live.body.decode().splitlines() if '"content":"' in line.replace(" ", "")
            ]
            assert len(pieces) > 1
            alone = await post(world, model="usual")
            assert alone.json["choices"][0]["message"]["content"] == "tenalp"
            assert alone.json["stretto"]["calls"] == 1
            receipt = (
                await Exchange(world.gateway(), "GET", f"/v1/runs/{alone.json['stretto']['run_id']}").run()
            ).json
            (choice,) = receipt["choices"]
            assert choice["picked"] == "string-north"
            assert "string-north alone is right" in choice["reason"]

    asyncio.run(scene())
