"""Golden transcripts replayed both ways: a client's request becomes the very request upstream, and what that says its answer."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.asgi import Exchange
from tests.golden_clients import FOLDER, Names, body_real, body_told, gateway, same, tales
from tests.unit.pool.upstream import Says, upstream

TALES = tales()


def as_kept(raw: bytes, names: Names) -> dict[str, Any]:
    """A request as the upstream got it, in the words of a transcript."""
    head, _, body = raw.partition(b"\r\n\r\n")
    return {"path": head.split(b" ")[1].decode(), "body": body_told(body, names)}


@pytest.mark.parametrize("tale", [tale for _, tale in TALES], ids=[name for name, _ in TALES])
def test_what_was_recorded_happens_again(tale: Mapping[str, Any], tmp_path: Path) -> None:
    """Request -> parse -> render -> upstream, and upstream -> our answer -> client: each as it was, field by field, in order."""
    exchanges = tale["exchanges"]
    names = Names()

    async def main() -> None:
        script = [Says(each["reply"].encode()) for exchange in exchanges for each in exchange["upstream"]]
        async with upstream(*script) as it, gateway(tmp_path, it.base_url) as app:
            for exchange in exchanges:
                before = len(it.requests)
                body = body_real(exchange["body"], names) if exchange["body"] != [""] else b""
                headers = {k: v for k, v in exchange["headers"].items() if v != "*"}
                got = await Exchange(app, exchange["method"], exchange["path"], body, headers).run()
                if run := got.headers.get("x-stretto-run-id"):
                    names.met(run)
                asked = [as_kept(raw, names) for raw in it.requests[before:]]
                wanted = [{"path": each["path"], "body": each["body"]} for each in exchange["upstream"]]
                assert same(asked, wanted), json.dumps(asked)
                assert (got.status, got.headers["content-type"]) == (exchange["status"], exchange["type"])
                answer = body_told(got.body, names)
                assert same(answer, exchange["answer"]), json.dumps(answer)

    asyncio.run(main())


def test_the_transcripts_are_of_many_clients_and_hold_no_secrets() -> None:
    """Three vendors' clients in two languages, streams and whole answers; no key, no path of a machine, no address."""
    clients = {path.stem for path in FOLDER.glob("*.json")}
    assert clients >= {
        "openai-python",
        "openai-node",
        "anthropic-python",
        "anthropic-node",
        "ai-openai-compatible",
    }
    text = "".join(path.read_text() for path in FOLDER.glob("*.json")).replace("http://json-schema.org/", "")
    for secret in ("sk-", "Bearer", "/root", "/home", "/work", "http://", "https://"):
        assert secret not in text, secret
    types = {exchange["type"] for _, tale in TALES for exchange in tale["exchanges"]}
    assert types == {"application/json", "text/event-stream; charset=utf-8"}
