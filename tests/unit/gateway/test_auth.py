"""Who may call, and what."""

import asyncio
import time
from typing import Any

import pytest

from stretto.errors import ConfigError
from stretto.gateway.auth import check_listen, is_loopback
from stretto.types import Key
from tests.asgi import call
from tests.gateway_world import CHAT, World, hello

EVERYDAY = frozenset({"models", "runs", "feedback"})


def keys(**fields: Any) -> dict[str, Key]:
    """One key with secret `s3cret`."""
    return {"s3cret": Key("key_1", "one", **{"scopes": EVERYDAY, **fields})}


@pytest.mark.parametrize("headers", [{"authorization": "Bearer s3cret"}, {"authorization": "bearer s3cret"}])
def test_a_bearer_token_opens(headers: dict[str, str]) -> None:
    """`Authorization: Bearer`, in any case."""
    assert asyncio.run(call(World(keys=keys()).app, "POST", CHAT, hello(), **headers)).status == 200


def test_x_api_key_opens() -> None:
    """The way Anthropic's clients send it; a foreign authorization scheme beside it does no harm."""
    world = World(keys=keys())
    got = asyncio.run(
        call(world.app, "POST", CHAT, hello(), x_api_key="s3cret", authorization="Basic abcdef")
    )
    assert got.status == 200


def test_the_run_belongs_to_the_key() -> None:
    """The ledger knows by whom, never the secret."""
    world = World(keys=keys())
    asyncio.run(call(world.app, "POST", CHAT, hello(), authorization="Bearer s3cret"))
    events = world.store.events(world.only_run())
    assert next(e for e in events if e.kind == "opened").key == "key_1"
    assert "s3cret" not in repr(events)


def test_wrong_revoked_and_expired_keys_are_told_the_same() -> None:
    """Nobody learns whether a key ever was one."""

    async def answers() -> set[bytes]:
        found = set()
        for changes, secret in (
            ({}, "wrong"),
            ({"revoked": 1.0}, "s3cret"),
            ({"expires": time.time() - 1}, "s3cret"),
        ):
            got = await call(
                World(keys=keys(**changes)).app, "POST", CHAT, hello(), authorization=f"Bearer {secret}"
            )
            assert (got.status, got.error["code"]) == (401, "invalid_api_key")
            assert got.headers["www-authenticate"] == "Bearer"
            found.add(got.body)
        return found

    assert len(asyncio.run(answers())) == 1


def test_without_a_key_the_caller_is_told_how_to_send_one() -> None:
    """401 says which headers count, and that trying again is of no use: Claude Code would, for three minutes."""
    got = asyncio.run(call(World(keys=keys()).app, "POST", CHAT, hello()))
    assert got.status == 401
    assert got.headers["x-should-retry"] == "false"
    assert "Authorization: Bearer" in got.error["message"]


def test_a_missing_scope_is_forbidden() -> None:
    """A key that may only read may not ask models."""
    world = World(keys=keys(scopes=frozenset({"runs"})))

    async def main() -> None:
        secret = {"authorization": "Bearer s3cret"}
        got = await call(world.app, "POST", CHAT, hello(), **secret)
        assert (got.status, got.error["code"]) == (403, "forbidden")
        assert (await call(world.app, "GET", "/v1/runs", **secret)).status == 200
        assert (await call(world.app, "GET", "/metrics", **secret)).status == 403

    asyncio.run(main())


@pytest.mark.parametrize(("model", "status"), [("a", 403), ("org/c", 200), ("panel", 200), ("nobody", 403)])
def test_a_key_may_use_what_its_patterns_name(model: str, status: int) -> None:
    """Names count as they are, `prefix*` as a prefix; a policy the key may use may ask workers it may not."""
    world = World(keys=keys(models=("org/*", "panel")))
    got = asyncio.run(call(world.app, "POST", CHAT, hello(model), authorization="Bearer s3cret"))
    assert got.status == status


def test_a_policy_option_is_no_way_round_the_patterns() -> None:
    """Both the model and the policy that replaces it must be allowed, from body or header."""
    world = World(keys=keys(models=("a",)))

    async def main() -> None:
        secret = {"authorization": "Bearer s3cret"}
        body = hello("a", stretto={"policy": "b"})
        assert (await call(world.app, "POST", CHAT, body, **secret)).status == 403
        got = await call(world.app, "POST", CHAT, hello("a"), x_stretto_policy="b", **secret)
        assert got.status == 403
        listed = await call(world.app, "GET", "/v1/models", **secret)
        assert [entry["id"] for entry in listed.json["data"]] == ["a"]
        assert (await call(world.app, "GET", "/v1/models/b", **secret)).status == 404

    asyncio.run(main())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"authorization": "Bearer whatever-the-sdk-had"}, 200),
        ({"host": "localhost:8700"}, 200),
        ({"host": "127.0.0.1:8700", "origin": "http://localhost:3000"}, 200),
        ({"host": "[::1]:8700"}, 200),
        ({"host": "evil.example:8700"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": "[::1].evil.example"}, 403),
        ({"host": "localhost:evil.example"}, 403),
        ({"host": "[::1"}, 403),
        ({"host": "localhost", "origin": "https://evil.example"}, 403),
        ({"host": "localhost", "origin": "null"}, 403),
        ({"host": "localhost", "origin": "http://localhost@evil.example"}, 403),
    ],
)
def test_without_keys_only_programs_on_this_machine_may_call(headers: dict[str, str], status: int) -> None:
    """A web page cannot spend the owner's money through a port on loopback, nor by rebinding a name to it."""
    got = asyncio.run(call(World().app, "POST", CHAT, hello(), **headers))
    assert got.status == status


@pytest.mark.parametrize(
    ("host", "yes"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("app.localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.com", False),
        ("", False),
    ],
)
def test_what_counts_as_this_machine(host: str, yes: bool) -> None:
    """Loopback addresses and names, nothing else."""
    assert is_loopback(host) is yes


def test_listening_elsewhere_needs_a_key() -> None:
    """The refusal says what to do."""
    check_listen("127.0.0.1", False)
    check_listen("0.0.0.0", True)
    with pytest.raises(ConfigError, match="stretto keys create"):
        check_listen("0.0.0.0", False)
