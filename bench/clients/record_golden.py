"""Records what real clients send and get, as golden transcripts for the tests.

    python -m bench.clients.record_golden [--client openai-node]

Each client is driven as by `python -m bench.clients.sdks` (whose environments are used, see its --help), through a gateway in
this process, with an upstream that answers in the wire it is asked in. The transcripts go to tests/golden/clients; a client that
cannot finish its cases is an error, and nothing of it is written.
"""

import argparse
import asyncio
import json
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import uvicorn

from bench.clients.sdks_cases import QUESTION
from bench.clients.sdks_setup import ROOT, command, version
from tests.acceptance.speakers import INPUT, OUTPUT, Speakers
from tests.golden_clients import FOLDER, Names, body_told, gateway, headers_told

CLIENTS: Final = {
    "openai-python": "north",
    "openai-python-responses": "west",
    "openai-node": "north",
    "openai-node-responses": "west",
    "anthropic-python": "south",
    "anthropic-node": "south",
    "ai-openai-compatible": "north",
    "ai-openai-responses": "west",
    "ai-anthropic": "south",
}
"""Each client, and the worker that speaks the same format upstream."""
FOREIGN: Final = {"north": "south", "south": "west", "west": "north"}
"""The worker of another format with which its tool loop is recorded once more."""


class Witness(Speakers):
    """An upstream that remembers what it was asked and said."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def _answered(self, path: str, body: Mapping[str, Any]) -> bytes:
        raw = super()._answered(path, body)
        self.seen.append({"path": path, "body": body, "reply": raw.decode()})
        return raw


class Recorder:
    """The gateway, and what goes in and out of it."""

    def __init__(self, app: Any, witness: Witness) -> None:
        self._app = app
        self._witness = witness
        self.names = Names()
        self.exchanges: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked, got, head = bytearray(), bytearray(), {}

        async def taken() -> Any:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                head.update(message)
            else:
                got.extend(message.get("body", b""))
            await send(message)

        self._witness.seen.clear()
        await self._app(scope, taken, sent)
        headers = {k.decode(): v.decode() for k, v in head["headers"]}
        told = self.names.told
        if run := headers.get("x-stretto-run-id"):
            self.names.met(run)
        self.exchanges.append(
            {
                "method": scope["method"],
                "path": scope["path"]
                + ("?" + scope["query_string"].decode() if scope["query_string"] else ""),
                "headers": headers_told((k.decode(), v.decode("latin-1")) for k, v in scope["headers"]),
                "body": body_told(bytes(asked), self.names),
                "upstream": [json.loads(told(json.dumps(each))) for each in self._witness.seen],
                "status": head["status"],
                "type": headers["content-type"],
                "answer": body_told(bytes(got), self.names),
            }
        )


async def record(client: str) -> list[dict[str, Any]]:
    """The tales of one client."""
    own = CLIENTS[client]
    found = []
    for feature, model in (("stream", own), ("structured", own), ("turns", own), ("turns", FOREIGN[own])):
        witness = Witness()
        server = await asyncio.start_server(witness.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        with tempfile.TemporaryDirectory() as folder:
            async with gateway(Path(folder), url) as app:
                recorder = Recorder(app, witness)
                await _driven(client, feature, model, recorder)
        server.close()
        if witness.wrong:
            raise SystemExit(f"{client} {feature}: {witness.wrong}")
        found.append({"feature": feature, "model": model, "exchanges": recorder.exchanges})
    return found


async def _driven(client: str, feature: str, model: str, app: Recorder) -> None:
    listens = socket.create_server(("127.0.0.1", 0))
    port = listens.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[listens]))
    case = {
        "base": f"http://127.0.0.1:{port}",
        "model": model,
        "policy": "solo",
        "upstream": "scripted",
        "prompt": QUESTION,
        "says": "You said",
        "concludes": "",
        "echoes": True,
        "usage": [INPUT, OUTPUT],
        "feature": feature,
        "key": "sk-none",
    }
    process = await asyncio.create_subprocess_exec(
        *command(client), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    out, _ = await process.communicate(json.dumps(case).encode() + b"\n")
    server.should_exit = True
    await serving
    told = [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]
    if not told or not all(each["ok"] for each in told):
        raise SystemExit(f"{client} {feature}: {told}")


async def main(options: argparse.Namespace) -> None:
    """Record them, one after the other."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for client in options.client or CLIENTS:
        found = await record(client)
        body = {"client": client, "version": await version(client), "tales": found}
        text = json.dumps(body, indent=1, ensure_ascii=False)
        (FOLDER / f"{client}.json").write_text(text + "\n")
        print(
            f"{client}: {sum(len(tale['exchanges']) for tale in found)} exchanges, {len(text):,} bytes",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--client", action="append", choices=CLIENTS, help="only this one (may be repeated)")
    sys.exit(asyncio.run(main(parser.parse_args())))
