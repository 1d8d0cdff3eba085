"""Fusion end to end: OpenRouter's three forms at the composed gateway, over real HTTP upstreams that fail in real ways."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from stretto.app import World, open_world
from stretto.config import parse
from tests.asgi import Exchange
from tests.unit.pool.upstream import WHOLE, Says, Upstream, answer, completion, stream, upstream

CHAT = "/v1/chat/completions"
ASKED = [{"role": "user", "content": "Why is the sky blue?"}]
BROKEN = answer({"error": {"message": "no"}}, 400)
SILENT = Says(b"", "hang")
ANALYSIS = json.dumps(
    {
        "consensus": ["light scatters"],
        "contradictions": ["they differ on ozone"],
        "unique_insights": [{"model": "B", "insight": "sunsets"}],
    }
)


def saying(text: str) -> Says:
    """A whole answer."""
    return answer(completion(text))


def calling(arguments: str) -> Says:
    """A whole answer that calls the panel."""
    body = completion(None, "tool_calls")
    function = {"name": "fusion", "arguments": arguments}
    body["choices"][0]["message"]["tool_calls"] = [{"id": "c1", "type": "function", "function": function}]
    return answer(body)


def config(one: Upstream, two: Upstream, outer: Upstream) -> str:
    """Three workers, the outer one the dearest, and a preset of the owner's."""
    workers = "".join(
        f'[[worker]]\nid = "{name}"\nendpoints = [{{ base_url = "{where.base_url}" }}]\n'
        f"price = {{ input = {price}, output = {price} }}\n"
        for name, where, price in (("one", one, 1), ("two", two, 2), ("outer", outer, 3))
    )
    return f"""
[server]
data = "data"
{workers}
[policy.hurried]
type = "fuse"
panel = ["one", "two"]
judge = "outer"
writer = "outer"
analysis = true
deadline = 0.5
"""


@asynccontextmanager
async def gateway(
    folder: Path, one: Says, two: Says, *outer: Says
) -> AsyncIterator[tuple[World, list[Upstream]]]:
    """A gateway over three upstreams: two that answer, one that decides, compares and writes."""
    async with upstream(one) as a, upstream(two) as b, upstream(*outer) as c:
        file = folder / "stretto.toml"
        file.write_text(config(a, b, c))
        async with open_world(parse(file.read_text(), file=str(file))) as world:
            yield world, [a, b, c]


async def post(world: World, body: Mapping[str, Any], path: str = CHAT, **headers: str) -> Exchange:
    """One request."""
    sent = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return await Exchange(world.gateway(), "POST", path, json.dumps(body).encode(), sent).run()


def text_of(done: Exchange) -> str:
    """The text of a whole chat answer."""
    return str(done.json["choices"][0]["message"]["content"])


def test_the_alias_asks_a_panel_and_writes_from_its_analysis(tmp_path: Path) -> None:
    """Two drafts, one comparison, one text; the result stands in the answer in OpenRouter's schema, each call in the receipt."""

    async def scene() -> None:
        fenced = f"Sure:\n```json\n{ANALYSIS}\n```"
        async with gateway(tmp_path, saying("dust"), saying("air"), saying(fenced), saying("Rayleigh")) as (
            world,
            (_, _, outer),
        ):
            plugin = {"id": "fusion", "analysis_models": ["one", "two"], "model": "outer"}
            done = await post(world, {"model": "stretto/fusion", "messages": ASKED, "plugins": [plugin]})
            assert (done.status, text_of(done), done.json["model"]) == (200, "Rayleigh", "stretto/fusion")
            told = done.json["stretto"]
            assert told["fusion"] == {
                "status": "ok",
                "analysis": {
                    "consensus": ["light scatters"],
                    "contradictions": [{"topic": "they differ on ozone", "stances": []}],
                    "partial_coverage": [],
                    "unique_insights": [{"model": "two", "insight": "sunsets"}],
                    "blind_spots": [],
                },
                "responses": [{"model": "one", "content": "dust"}, {"model": "two", "content": "air"}],
            }
            compared, written = outer.bodies
            assert compared["temperature"] == 0
            assert "plugins" not in compared
            assert "plugins" not in written
            assert "light scatters" in written["messages"][0]["content"]
            assert written["messages"][1:] == ASKED
            receipt = world.reader.receipt(told["run_id"])
            assert [a["role"] for a in receipt["attempts"]] == ["solver", "solver", "judge", "synthesizer"]
            assert receipt["policy"] == "stretto/fusion"

    asyncio.run(scene())


def test_the_server_tool_lets_the_outer_model_decide(tmp_path: Path) -> None:
    """It calls the panel in its own words, reads the result, and streams the final text."""
    tool = {"type": "openrouter:fusion", "parameters": {"analysis_models": ["one", "two"]}}

    async def scene() -> None:
        script = (calling('{"prompt": "Explain scattering."}'), saying(ANALYSIS), stream(WHOLE))
        async with gateway(tmp_path, saying("dust"), saying("air"), *script) as (world, (one, _, outer)):
            done = await post(world, {"model": "outer", "messages": ASKED, "tools": [tool], "stream": True})
            events = [
                json.loads(e[6:]) for e in b"".join(done.chunks).decode().split("\n\n") if e[6:7] == "{"
            ]
            deltas = [e["choices"][0]["delta"] for e in events if e["choices"]]
            assert "".join(d.get("content") or "" for d in deltas) == "four"
            assert not any("tool_calls" in d for d in deltas)
            block = next(e["stretto"] for e in events if "stretto" in e)
            assert block["fusion"]["analysis"]["consensus"] == ["light scatters"]
            assert block["policy"] == "stretto/fusion"
            assert one.bodies[0]["messages"] == [{"role": "user", "content": "Explain scattering."}]
            opening, _, final = outer.bodies
            assert [t["function"]["name"] for t in opening["tools"]] == ["fusion"]
            assert "tools" not in final
            assert final["stream"] is True
            choices = world.reader.receipt(block["run_id"])["choices"]
            assert choices[0]["picked"] == "ask the panel"

    asyncio.run(scene())


def test_an_outer_model_that_needs_no_panel_is_asked_once(tmp_path: Path) -> None:
    """Under `openrouter/fusion`, as there; the dearest worker is the outer one."""

    async def scene() -> None:
        async with gateway(tmp_path, saying("dust"), saying("air"), saying("Rayleigh")) as (world, ups):
            done = await post(world, {"model": "openrouter/fusion", "messages": ASKED})
            assert (text_of(done), done.json["stretto"]["calls"]) == ("Rayleigh", 1)
            assert "fusion" not in done.json["stretto"]
            assert [len(u.requests) for u in ups] == [0, 0, 1]

    asyncio.run(scene())


def test_the_plugin_survives_a_garbled_analyst_and_lost_members(tmp_path: Path) -> None:
    """A member's server fails, one name is nobody's, the analyst rambles: the text is written from what is there."""
    plugin = {"id": "fusion", "analysis_models": ["one", "two", "vendor/unheard-of"]}

    async def scene() -> None:
        async with gateway(tmp_path, BROKEN, saying("air"), saying("Well..."), saying("Rayleigh")) as (
            world,
            ups,
        ):
            body = {"model": "outer", "messages": ASKED, "plugins": [plugin], "tool_choice": "required"}
            done = await post(world, body)
            assert text_of(done) == "Rayleigh"
            found = done.json["stretto"]["fusion"]
            assert (found["status"], "analysis" in found) == ("ok", False)
            assert found["responses"] == [{"model": "two", "content": "air"}]
            assert [(f["model"], f["error"]) for f in found["failed_models"]] == [
                ("one", "bad_request"),
                ("vendor/unheard-of", "is not among the workers this request may use"),
            ]
            assert "one failed (bad_request)" in done.json["stretto"]["why"]
            assert "air" in ups[2].bodies[1]["messages"][0]["content"]

    asyncio.run(scene())


def test_a_panel_without_an_answer_leaves_the_outer_model(tmp_path: Path) -> None:
    """It answers alone, and the result says why there is no more."""

    async def scene() -> None:
        async with gateway(tmp_path, BROKEN, BROKEN, saying("Rayleigh")) as (world, _):
            tool = {"type": "stretto:fusion", "parameters": {"analysis_models": ["one", "two"]}}
            body = {
                "model": "outer",
                "messages": ASKED,
                "tools": [tool],
                "tool_choice": {"type": "stretto:fusion"},
            }
            done = await post(world, body)
            assert text_of(done) == "Rayleigh"
            found = done.json["stretto"]["fusion"]
            assert (found["status"], found["failure_reason"]) == ("error", "all_panels_failed")

    asyncio.run(scene())


def test_a_preset_of_the_owners_brings_its_deadline(tmp_path: Path) -> None:
    """A server that never answers is not waited for, and named."""

    async def scene() -> None:
        async with gateway(tmp_path, SILENT, saying("air"), saying(ANALYSIS), saying("Rayleigh")) as (
            world,
            ups,
        ):
            plugin = {"id": "fusion", "preset": "hurried"}
            done = await post(world, {"model": "stretto/fusion", "messages": ASKED, "plugins": [plugin]})
            assert text_of(done) == "Rayleigh"
            assert done.json["stretto"]["fusion"]["failed_models"] == [{"model": "one", "error": "dropped"}]
            assert len(ups[0].requests) == 1

    asyncio.run(scene())


def test_what_may_not_be_is_refused_before_anyone_is_asked(tmp_path: Path) -> None:
    """Fusion from inside a fusion, a preset that is none, a panel that the key may not name."""

    async def scene() -> None:
        async with gateway(tmp_path, saying("a"), saying("b"), saying("c")) as (world, ups):
            body: dict[str, Any] = {"model": "stretto/fusion", "messages": ASKED}
            nested = await post(world, body, x_openrouter_fusion_depth="1")
            assert (nested.status, "fusion_invocation_capped" in nested.json["error"]["message"]) == (
                400,
                True,
            )
            odd = await post(world, {**body, "plugins": [{"id": "fusion", "preset": "hurred"}]})
            assert (odd.status, 'did you mean "hurried"' in odd.json["error"]["message"]) == (400, True)
            _, secret = world.keys.create("narrow", models=("stretto/fusion", "one"))
            wide = {**body, "plugins": [{"id": "fusion", "analysis_models": ["one", "two"]}]}
            barred = await post(world, wide, authorization=f"Bearer {secret}")
            assert (barred.status, "'two'" in barred.json["error"]["message"]) == (403, True)
            _, secret = world.keys.create("one", models=("one",))
            for preset in (
                {},
                {"preset": "general-fast"},
                {"preset": "hurried"},
            ):  # these panels have others, too
                open_panel = {"model": "one", "messages": ASKED, "plugins": [{"id": "fusion", **preset}]}
                barred = await post(world, open_panel, authorization=f"Bearer {secret}")
                assert barred.status == 403
            assert [u.requests for u in ups] == [[], [], []]

    asyncio.run(scene())
