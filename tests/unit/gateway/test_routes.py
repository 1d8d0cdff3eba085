"""The routes beside inference."""

import asyncio
import contextlib
from dataclasses import replace
from typing import Any, get_args

import pytest

from stretto.errors import ConfigError
from stretto.gateway.errors import FAILURES
from stretto.gateway.http import Gateway
from stretto.gateway.settings import Settings
from stretto.ledger.read import Reader
from stretto.steps import Outcome
from stretto.types import FailureKind, Key, Limits
from tests.asgi import Exchange, call
from tests.gateway_world import CHAT, Secrets, World, echo, hello


def get(world: World, path: str, **headers: str) -> Exchange:
    """One GET."""
    return asyncio.run(call(world.app, "GET", path, **headers))


def test_every_kind_of_failure_has_its_row() -> None:
    """The table is whole."""
    assert set(FAILURES) == set(get_args(FailureKind))


def test_models_are_listed_and_found_with_slashes_in_their_names() -> None:
    """Workers with price and abilities, policies too."""
    world = World()
    listed = get(world, "/v1/models").json
    assert [entry["id"] for entry in listed["data"]] == ["a", "b", "org/c", "panel"]
    one = get(world, "/v1/models/org/c").json
    assert (one["id"], one["object"]) == ("org/c", "model")
    assert one["price"] == {"input": 1.0, "output": 2.0}
    assert get(world, "/v1/models/panel").json["labels"]["kind"] == "policy"
    missing = get(world, "/v1/models/org/d")
    assert (missing.status, missing.error["code"]) == (404, "model_not_found")


def test_a_plan_tells_everything_and_calls_nobody() -> None:
    """Candidates, denied, first asks, outlook within the limits."""
    world = World(labels={"b": {"region": "us"}}, limits=Limits(calls=40))
    body = hello("panel", stretto={"exclude": {"region": "us"}, "limits": {"usd": 0.0015}})
    got = asyncio.run(call(world.app, "POST", "/v1/plans", body)).json
    assert (got["policy"], got["type"], got["around"]) == ("panel", "fuse", [])
    assert [entry["id"] for entry in got["candidates"]] == ["a", "org/c"]
    assert got["denied"] == [{"worker": "b", "reason": "region 'us' is excluded"}]
    assert [ask["worker"] for ask in got["first"]] == ["a", "org/c"]
    assert got["outlook"]["usd"]["most"] <= 0.0015
    assert got["limits"] == {"usd": 0.0015, "calls": 40, "seconds": None, "depth": 8, "fanout": 32}
    assert world.pool.asks == []
    assert world.store.runs() == []


def test_a_receipt_lists_every_attempt_and_adds_up() -> None:
    """GET /v1/runs/{id} is the receipt; its attempts sum to what the answer said."""
    world = World()
    answer = asyncio.run(call(world.app, "POST", CHAT, hello("panel")))
    receipt = get(world, answer.json["stretto"]["receipt"]).json
    assert receipt["consistent"] is True
    assert len(receipt["attempts"]) == 3
    assert receipt["usage"]["input"] == answer.json["usage"]["prompt_tokens"]
    assert sum(a["cost_pico"] for a in receipt["attempts"]) == receipt["cost_pico"]
    assert receipt["cost_usd"] == answer.json["stretto"]["cost_usd"]
    assert "request" not in receipt
    with_texts = get(world, answer.json["stretto"]["receipt"] + "?content=true").json
    assert with_texts["request"]["messages"][0]["content"] == "hello"
    assert get(world, answer.json["stretto"]["receipt"] + "?content=yes").status == 400


def test_the_record_of_a_run_can_be_read_without_its_secret() -> None:
    """GET /v1/runs/{id}/events is the ledger's own words."""
    world = World()
    asyncio.run(call(world.app, "POST", CHAT, hello()))
    path = f"/v1/runs/{world.only_run()}/events"
    got = get(world, path).json
    kinds = [event["kind"] for event in got["data"]]
    assert [k for k in kinds if k != "pooled"] == ["opened", "asked", "answered", "finished"]
    secret = next(e for e in world.store.events(world.only_run()) if e.kind == "opened").secret
    assert secret
    assert secret.encode() not in get(world, path).body
    assert b"a says hello" not in get(world, path + "?content=false").body


def test_runs_are_listed_newest_first_page_by_page() -> None:
    """`limit` and `before` walk through them."""
    world = World()

    async def main() -> None:
        ids = [(await call(world.app, "POST", CHAT, hello())).json["stretto"]["run_id"] for _ in range(3)]
        newest = sorted(ids, reverse=True)
        first = (await call(world.app, "GET", "/v1/runs?limit=2")).json["data"]
        assert [run["run"] for run in first] == newest[:2]
        rest = (await call(world.app, "GET", f"/v1/runs?before={newest[1]}")).json["data"]
        assert [run["run"] for run in rest] == newest[2:]

    asyncio.run(main())
    assert get(world, "/v1/runs?limit=0").status == 400
    for limit in ("many", "%C2%B2", "9" * 5000):
        assert get(world, f"/v1/runs?limit={limit}").status == 400


def test_runs_are_visible_to_the_key_that_made_them_and_to_administrators() -> None:
    """Another key gets 404, as if there were none, on every route of a run."""
    everyday = frozenset({"models", "runs", "feedback"})
    keys = {
        "one": Key("key_1", scopes=everyday),
        "two": Key("key_2", scopes=everyday),
        "root": Key("key_0", scopes=frozenset({"admin"})),
    }
    world = World(keys=keys)

    async def main() -> None:
        made = await call(world.app, "POST", CHAT, hello(), authorization="Bearer one")
        run_id = made.json["stretto"]["run_id"]
        for secret, status, count in (("one", 200, 1), ("two", 404, 0), ("root", 200, 1)):
            who = {"authorization": f"Bearer {secret}"}
            assert (await call(world.app, "GET", f"/v1/runs/{run_id}", **who)).status == status
            assert (await call(world.app, "GET", f"/v1/runs/{run_id}/events", **who)).status == status
            assert (await call(world.app, "POST", f"/v1/runs/{run_id}/replay", **who)).status == status
            score = {"run_id": run_id, "score": 1}
            assert (await call(world.app, "POST", "/v1/feedback", score, **who)).status == status
            listed = await call(world.app, "GET", "/v1/runs", **who)
            assert len(listed.json["data"]) == count

    asyncio.run(main())


def test_a_replay_calls_nobody_and_gives_the_same_answer() -> None:
    """Without a body, the run is replayed under the policy that was recorded."""
    world = World()

    async def main() -> None:
        answer = await call(world.app, "POST", CHAT, hello("panel"))
        asked = len(world.pool.asks)
        again = await call(world.app, "POST", answer.json["stretto"]["receipt"] + "/replay")
        assert again.status == 200
        assert again.json["choices"] == answer.json["choices"]
        assert again.json["stretto"]["replay"] is True
        assert again.json["stretto"]["missing"] == []
        assert len(world.pool.asks) == asked

    asyncio.run(main())


def test_a_replay_under_another_policy_uses_stored_outcomes() -> None:
    """What the record holds answers; what it does not hold is named."""
    world = World()

    async def main() -> None:
        answer = await call(world.app, "POST", CHAT, hello("panel"))
        path = answer.json["stretto"]["receipt"] + "/replay"
        other = await call(world.app, "POST", path, {"policy": "b"})
        assert other.json["stretto"]["served_by"] == "b"
        assert other.json["choices"][0]["message"]["content"] == "b says hello"
        solo = await call(world.app, "POST", CHAT, hello("a"))
        path = solo.json["stretto"]["receipt"] + "/replay"
        missing = await call(world.app, "POST", path, {"policy": "b"})
        assert (missing.status, missing.error["code"]) == (409, "not_recorded")
        assert missing.json["stretto"]["missing"] == ["0"]
        assert (await call(world.app, "POST", path, {"policy": "nobody"})).status == 404

    asyncio.run(main())


def test_feedback_is_recorded_with_its_comment() -> None:
    """A score 0..1 for a run."""
    world = World()
    asyncio.run(call(world.app, "POST", CHAT, hello()))
    body = {"run_id": world.only_run(), "score": 0.75, "comment": "good"}
    assert asyncio.run(call(world.app, "POST", "/v1/feedback", body)).status == 200
    assert get(world, f"/v1/runs/{world.only_run()}").json["scores"][0]["score"] == 0.75


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"run_id": "run_nobody", "score": 1}, 404),
        ({"run_id": "x", "score": 1.5}, 400),
        ({"run_id": "x"}, 400),
        ({"score": 1}, 400),
        ({"run_id": "x", "score": 1, "stars": 5}, 400),
        ([], 400),
        (b"{", 400),
    ],
)
def test_bad_feedback_is_refused(body: Any, status: int) -> None:
    """With the name of what is wrong."""
    assert asyncio.run(call(World().app, "POST", "/v1/feedback", body)).status == status


def test_a_path_that_is_not_there_is_a_404_in_openai_s_shape() -> None:
    """Unknown paths are cheap and say where to look."""
    world = World()
    for path in ("/nope", "/v1/runs/x/nope", "/v1/runs/", "/v1/chat/completions/x"):
        got = get(world, path)
        assert (got.status, got.error["code"]) == (404, "unknown_url"), path


def test_a_client_with_v1_too_many_or_too_few_is_told() -> None:
    """OpenAI's clients want /v1 in their base URL, Anthropic's add it themselves; both mistakes are usual."""
    world = World()
    assert "without" in get(world, "/v1/v1/messages").error["message"]
    assert "begin with /v1" in get(world, "/chat/completions").error["message"]


def test_a_wrong_method_is_a_405_that_names_the_right_ones() -> None:
    """With an `Allow` header."""
    got = get(World(), CHAT)
    assert (got.status, got.headers["allow"], got.error["code"]) == (405, "POST", "method_not_allowed")
    got = asyncio.run(call(World().app, "DELETE", "/v1/models"))
    assert (got.status, got.headers["allow"]) == (405, "GET, HEAD")


def test_a_trailing_slash_does_no_harm() -> None:
    """`base_url` is often written with one too many."""
    assert get(World(), "/v1/models/").status == 404
    assert get(World(), "/health/").status == 200


def test_the_root_points_the_way_for_people_and_programs() -> None:
    """JSON, or a page for a browser; HEAD answers too (Claude Code begins with it)."""
    world = World()
    assert "POST /v1/chat/completions" in get(world, "/").json["routes"]
    page = get(world, "/", accept="text/html,*/*")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert asyncio.run(call(world.app, "HEAD", "/")).status == 200


def test_health_is_open_and_says_what_runs() -> None:
    """Version, configuration and what the composition root adds; no key needed."""
    world = World(keys={"x": Key("key_1")}, health=lambda: {"pool": {"workers": 3}})
    got = get(world, "/health")
    assert got.status == 200
    assert got.json == {
        "status": "ok",
        "version": "1.2.3",
        "config": "c0ffee",
        "ledger": "ok",
        "pool": {"workers": 3},
    }


def test_metrics_count_what_happened() -> None:
    """Requests by route and status, runs by policy and outcome, calls, tokens, money."""
    world = World()

    async def main() -> str:
        await call(world.app, "POST", CHAT, hello())
        await call(world.app, "POST", CHAT, hello("panel"))
        await call(world.app, "GET", "/nowhere/with/a/long/tail")
        return (await call(world.app, "GET", "/metrics")).body.decode()

    text = asyncio.run(main())
    assert f'stretto_http_requests_total{{route="{CHAT}",status="200"}} 2' in text
    assert 'stretto_http_requests_total{route="unknown",status="404"} 1' in text
    assert 'stretto_runs_total{policy="panel",outcome="ok"} 1' in text
    assert "stretto_attempts_total 4" in text
    assert "stretto_input_tokens_total 12" in text


def test_the_server_s_life_frames_that_of_its_parts() -> None:
    """Lifespan: what was given is entered at the start and left at the end; its error stops the start."""
    seen: list[str] = []

    async def main(fails: bool) -> list[str]:
        @contextlib.asynccontextmanager
        async def parts() -> Any:
            if fails:
                raise ConfigError("no such file: x.gguf")
            seen.append("up")
            yield
            seen.append("down")

        world = World()
        app = Gateway(
            world.engine,
            world.catalog,
            Secrets({}),
            Reader(world.store),
            settings=Settings(),
            lifespan=parts,
        )
        said: list[str] = []
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            said.append(message["type"] + message.get("message", ""))

        await app({"type": "lifespan"}, receive, send)
        return said

    assert asyncio.run(main(False)) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert seen == ["up", "down"]
    assert asyncio.run(main(True)) == ["lifespan.startup.failedno such file: x.gguf"]


def test_an_answer_without_text_but_with_a_refusal_is_whole() -> None:
    """What a model refuses to say is an answer too."""

    async def attempt(ask: Any, emit: Any, tally: Any) -> Outcome:
        outcome = await echo(ask, None, tally)
        return replace(outcome, message=replace(outcome.message, content=None, refusal="I will not."))

    got = asyncio.run(call(World(attempt).app, "POST", CHAT, hello()))
    assert got.json["choices"][0]["message"]["refusal"] == "I will not."
