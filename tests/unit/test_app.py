"""The composition root: where the workers come from, what was learned about them, who needs a key."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from stretto import artifacts
from stretto.app import check_access, find_workers, needs_key, open_world
from stretto.artifacts import Artifact
from stretto.catalog import learned
from stretto.config import Settings, parse
from stretto.errors import ConfigError
from stretto.ledger.keys import Keys
from stretto.ledger.sqlite import connect, index_path, migrate
from stretto.pool.discover import Found
from stretto.steps import Ask
from stretto.types import Message
from tests.asgi import call

SPARRING = [
    *("string-north", "number-north", "list-north", "words-south", "digits-south"),
    *("general-small", "general-large", "thinker-north", "checker-south"),
]
WORKER = (
    '[[worker]]\nid = "gpt"\nendpoints = [{ base_url = "https://x.example/v1", api_key_env = "X_KEY" }]\n'
)


def find(text: str, environ: Mapping[str, str] | None = None) -> Found:
    """The workers of a configuration, without looking at this machine unless the text says so."""
    quiet = "" if "[pool]" in text else "[pool]\ndiscover = false\n"
    return asyncio.run(find_workers(parse(text + quiet), environ or {}))


def ids(found: Found) -> list[str]:
    """The workers' ids."""
    return [worker.id for worker in found.workers]


def keys(folder: Path) -> Keys:
    """The keys of a data folder."""
    connection = connect(index_path(folder))
    migrate(connection)
    return Keys(connection)


def test_without_anything_the_sparring_models_play_and_it_is_said() -> None:
    """Zero configuration leads to the shipped models, with a line that says why."""
    found = find("")
    assert ids(found) == SPARRING
    assert found.announcements == (
        f"no provider key and no model server was found: sparring models: {', '.join(SPARRING)} "
        "(they know twenty kinds of puzzle: `stretto sparring problems`)",
    )


def test_configured_workers_play_alone_unless_told_otherwise() -> None:
    """A [[worker]] keeps the sparring models out; `sparring = true` brings them in."""
    assert ids(find(WORKER)) == ["gpt"]
    assert ids(find(WORKER + "[pool]\nsparring = true\n")) == ["gpt", *SPARRING]


def test_a_provider_key_is_found_and_announced() -> None:
    """A key in the environment makes workers of its vendor; the announcement names the variable and never the key."""
    found = find("[pool]\ndiscover = true\n", {"OPENAI_API_KEY": "sk-very-secret"})
    assert not set(ids(found)) & set(SPARRING)
    assert any(line.startswith("OPENAI_API_KEY: openai") for line in found.announcements)
    assert "very-secret" not in repr(found)


def test_an_empty_pool_is_refused_with_what_to_do() -> None:
    """With nothing configured and everything switched off there is a clear error."""
    with pytest.raises(ConfigError, match=r"there is no worker: add a \[\[worker\]\]"):
        find("[pool]\ndiscover = false\nsparring = false\n")


def test_each_place_of_a_worker_has_a_name_and_its_own_key() -> None:
    """Endpoints are numbered where there are several, and get the key of the variable they name."""
    text = (
        '[[worker]]\nid = "gpt"\nendpoints = [{ base_url = "https://a.example/v1", api_key_env = "A" },'
        ' { base_url = "http://127.0.0.1:1/v1" }]\n'
    )
    (worker,) = find(text, {"A": "secret-a"}).workers
    assert [(place.name, place.api_key) for place in worker.places] == [("gpt/1", "secret-a"), ("gpt/2", "")]
    assert find(WORKER, {"X_KEY": "k"}).workers[0].places[0].name == "gpt"


def test_what_the_owner_has_learned_comes_before_what_ships(tmp_path: Path) -> None:
    """Artefacts in the data folder win; the shipped ones serve a pool of sparring models only."""
    assert learned(tmp_path, SPARRING).table is not None
    assert learned(tmp_path, SPARRING).thresholds is not None
    assert learned(tmp_path, [*SPARRING, "gpt"]).table is None
    mine = Artifact("stretto.route-table/1", data={"tasks": {}, "words": {}, "unseen": {}})
    artifacts.write(mine, tmp_path / "artifacts" / "route-table.json")
    found = learned(tmp_path, [*SPARRING, "gpt"])
    assert found.table is not None
    assert found.table.hash == mine.hash


def test_a_key_is_needed_where_others_could_come_in(tmp_path: Path) -> None:
    """On loopback callers need a key once there is one; elsewhere always, and there must be one to start at all.

    Revoking the last one does not open the door again.
    """

    def at(host: str, anonymous: str = "") -> Settings:
        return parse(f'[server]\nhost = "{host}"\n{anonymous}')

    none, some = keys(tmp_path / "none"), keys(tmp_path / "some")
    key, _ = some.create("alice")
    assert not needs_key(at("127.0.0.1"), none)
    assert needs_key(at("127.0.0.1"), some)
    assert not needs_key(at("127.0.0.1", "anonymous = true"), some)
    assert needs_key(at("127.0.0.1", "anonymous = false"), none)
    assert needs_key(at("0.0.0.0"), some)
    check_access(at("0.0.0.0"), some)
    with pytest.raises(ConfigError, match="without a key"):
        check_access(at("0.0.0.0"), none)
    with pytest.raises(ConfigError, match=r"server\.anonymous"):
        check_access(at("0.0.0.0", "anonymous = true"), some)
    some.revoke(key.id)
    assert needs_key(at("127.0.0.1"), some)
    with pytest.raises(ConfigError, match="without a key"):
        check_access(at("0.0.0.0"), some)


def test_the_first_key_closes_the_door_of_a_gateway_that_runs(tmp_path: Path) -> None:
    """Whoever made it and revoked it later: then neither it nor no key at all opens."""

    async def statuses() -> list[int]:
        file = tmp_path / "stretto.toml"
        file.write_text('[server]\ndata = "data"\n[pool]\ndiscover = false')
        async with open_world(parse(file.read_text(), file=str(file))) as world:
            app = world.gateway()
            found = [(await call(app, "GET", "/v1/models")).status]
            key, secret = world.keys.create("alice")
            for change in (lambda: None, lambda: world.keys.revoke(key.id)):
                change()
                found.append((await call(app, "GET", "/v1/models")).status)
                held = await call(app, "GET", "/v1/models", authorization=f"Bearer {secret}")
                found.append(held.status)
            return found

    assert asyncio.run(statuses()) == [200, 401, 200, 401, 401]


def test_a_world_leaves_a_closed_chain_and_no_open_files(tmp_path: Path) -> None:
    """Opening and closing a world twice on one folder works, and both chains end as they should."""
    from stretto.ledger.verify import verify

    settings = parse(f'[server]\ndata = "{tmp_path}"\n[pool]\ndiscover = false\n')

    async def open_and_close() -> str:
        async with open_world(settings) as world:
            return world.store.process

    first, second = asyncio.run(open_and_close()), asyncio.run(open_and_close())
    assert first != second
    report = verify(tmp_path)
    assert (report.ok, report.notes, report.chains) == (True, (), 2)


def test_a_world_expects_answers_as_long_as_those_that_it_was_learned_from(tmp_path: Path) -> None:
    """Before the first call of a data folder a sparring model is not expected to write hundreds of tokens."""

    async def quoted() -> float:
        settings = parse(f'[server]\ndata = "{tmp_path}"\n[pool]\ndiscover = false\n')
        async with open_world(settings) as world:
            ask = Ask("general-large", (Message("user", "How much is 17 plus 25?"),))
            card = next(card for card in world.pool.cards() if card.id == ask.worker)
            return world.pool.quote(ask).expected / card.price.output

    assert 5 < asyncio.run(quoted()) < 40
    assert not learned(tmp_path, ["gpt"]).lengths()
