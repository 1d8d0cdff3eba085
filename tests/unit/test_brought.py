"""Workers that artefacts bring along run on this machine: what an owner says of its place holds for them too."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from stretto import artifacts
from stretto.app import find_workers, open_world
from stretto.artifacts import Artifact
from stretto.catalog import equipped
from stretto.config import parse
from stretto.policies.coordinator import TRINITY_SCHEMA
from tests.asgi import Exchange

HERE = '[[worker]]\nid = "a"\npath = "a.gguf"\nlabels = { region = "eu", tier = "1", vendor = "us-lab" }\n'
THERE = (
    '[[worker]]\nid = "far"\nendpoints = [{ base_url = "https://far.example" }]\nlabels = { region = "us" }\n'
)


def brought(tmp_path: Path, toml: str, **row: Any) -> dict[str, str]:
    """The labels of the model that an artefact brings into the pool of a configuration."""
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.gguf").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    beside = [{"id": "b", "file": "b.gguf", "sha256": digest, "role": "coordinator", **row}]
    artifacts.write(Artifact(TRINITY_SCHEMA, data={"beside": beside}), tmp_path / "trinity.json")
    settings = parse(f'[server]\ndata = "data"\n{toml}', file=str(tmp_path / "stretto.toml"), environ={})
    found = asyncio.run(find_workers(settings, {}))
    pool, _ = equipped(settings, found.workers, tmp_path)
    return dict(pool[-1].card.labels)


def test_what_is_brought_has_the_labels_of_the_place(tmp_path: Path) -> None:
    """Those on which all workers of this machine agree: not who made them, and not where workers elsewhere are."""
    assert brought(tmp_path, HERE + THERE) == {"role": "coordinator", "region": "eu", "tier": "1"}
    other = HERE.replace('"a', '"c').replace('tier = "1"', 'tier = "2"')
    assert brought(tmp_path, HERE + other) == {"role": "coordinator", "region": "eu"}
    assert brought(tmp_path, THERE) == {"role": "coordinator"}


def test_where_it_runs_counts_more_than_where_it_was_trained(tmp_path: Path) -> None:
    """An artefact tells what holds elsewhere; of this place its owner knows more."""
    row = {"labels": {"vendor": "me", "region": "us"}}
    assert brought(tmp_path, HERE, **row) == {
        "role": "coordinator",
        "vendor": "me",
        "region": "eu",
        "tier": "1",
    }


@pytest.mark.parametrize("model", ["trinity", "conductor", "stretto-ultra"])
def test_a_place_ceiling_leaves_the_shipped_planner_and_coordinator_in(tmp_path: Path, model: str) -> None:
    """`require: region=eu` over HTTP: the northern models carry a task of two steps out, planned as always."""

    async def scene() -> None:
        file = tmp_path / "stretto.toml"
        file.write_text('[server]\ndata = "data"\n[pool]\ndiscover = false')
        async with open_world(parse(file.read_text(), file=str(file))) as world:
            body = {
                "model": model,
                "messages": [
                    {
                        "role": "user",
                        "content": "Sort the words pear, fig, apple and then spell the first one backward.",
                    }
                ],
                "temperature": 0,
                "stretto": {"require": {"region": "eu"}, "seed": 1},
            }
            sent = {"content-type": "application/json"}
            done = await Exchange(
                world.gateway(), "POST", "/v1/chat/completions", json.dumps(body).encode(), sent
            ).run()
            assert done.status == 200, done.body
            run = done.json["stretto"]["run_id"]
            receipt = (await Exchange(world.gateway(), "GET", f"/v1/runs/{run}").run()).json
            assert {"planner", "router"} & {a["role"] for a in receipt["attempts"]}
            assert {a["labels"]["region"] for a in receipt["attempts"]} == {"eu"}
            assert not any(a.get("error") for a in receipt["attempts"])

    asyncio.run(scene())
