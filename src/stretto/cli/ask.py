"""`stretto ask`: one question, in process or to a running gateway."""

import asyncio
import http.client
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from stretto.cli.options import folder_options, json_option, request_options
from stretto.cli.terminal import dump, duration, money
from stretto.config import load
from stretto.errors import ConfigError, StrettoError
from stretto.types import PICO, Delta, Request, usd

__all__ = ["ask"]


@click.command(
    epilog="\b\nExamples:\n"
    '  stretto ask "Spell the word planet backward."\n'
    '  stretto ask -m fuse --limit-usd 0.01 "How much is 17 plus 25?"\n'
    "  cat question.txt | stretto ask - --stream\n"
    '  stretto ask --url http://127.0.0.1:8700/v1 "Sort the letters of the word planet."\n'
)
@click.argument("text")
@request_options
@click.option("--stream", is_flag=True, help="Print the answer as it comes.")
@click.option("--url", help="Ask a running gateway (its /v1 address) instead of this process.")
@click.option("--key", envvar="STRETTO_KEY", help="The gateway's key (environment STRETTO_KEY).")
@folder_options
@json_option
def ask(
    text: str,
    request: Request,
    stream: bool,
    url: str | None,
    key: str | None,
    config: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Ask TEXT (`-`: what comes on standard input) and print the answer, with what it took on standard error."""
    if stream and as_json:
        raise click.UsageError("--stream prints pieces, --json one object: choose one.")
    told = _remotely(url, key, request, stream) if url else asyncio.run(_here(request, stream, config, data))
    if as_json:
        dump(told.as_json())
    elif not stream or not told.streamed:
        click.echo(told.text)
    if not as_json:
        note = f"{told.worker or 'nobody'}, {told.calls} call{'' if told.calls == 1 else 's'}, {money(told.cost)}"
        seconds = f", {duration(told.seconds)}" if told.seconds is not None else ""
        click.secho(f"{note}{seconds}  stretto runs show {told.run}", err=True, dim=True)


@dataclass(frozen=True, slots=True)
class _Told:
    """What came back. `cost` in pico-dollars."""

    run: str
    text: str
    worker: str
    why: str
    cost: int
    calls: int
    seconds: float | None
    streamed: bool

    def as_json(self) -> Mapping[str, Any]:
        return {
            "run_id": self.run,
            "answer": self.text,
            "served_by": self.worker,
            "why": self.why,
            "cost_usd": usd(self.cost),
            "calls": self.calls,
            "seconds": self.seconds,
        }


# --- in this process ---------------------------------------------------------------------------------------------


async def _here(request: Request, stream: bool, config: Path | None, data: Path | None) -> _Told:
    from stretto.app import open_world

    async with open_world(load(config, data=data)) as world:
        policy = world.catalog.resolve(request.model)
        run = await world.engine.run(
            policy, request, name=request.model, purpose="ask", emit=_show if stream else None
        )
    if run.streamed:
        click.echo()
    if run.answer.error is not None:
        raise StrettoError(
            f"{run.answer.error.kind}: {run.answer.error.message} (stretto runs show {run.id})"
        )
    answer = run.answer
    return _Told(
        run.id,
        _said(answer.message),
        answer.worker,
        answer.why,
        run.cost,
        run.calls,
        run.seconds,
        run.streamed,
    )


async def _show(deltas: Sequence[Delta]) -> None:
    click.echo("".join(delta.text for delta in deltas), nl=False)
    sys.stdout.flush()


def _said(message: Any) -> str:
    """The text, or the tool calls as JSON where there is none."""
    calls = [{"name": call.name, "arguments": call.arguments} for call in message.tool_calls]
    return message.text or message.refusal or (json.dumps(calls) if calls else "")


# --- at a gateway ------------------------------------------------------------------------------------------------


def _remotely(url: str, key: str | None, request: Request, stream: bool) -> _Told:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--url {url}: takes the address of a gateway, such as http://127.0.0.1:8700/v1")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=600)
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    try:
        connection.request(
            "POST", f"{parts.path.rstrip('/')}/chat/completions", json.dumps(_body(request, stream)), headers
        )
        response = connection.getresponse()
        if response.status != 200:
            raise StrettoError(f"{url} answered {response.status}: {_complaint(response.read())}")
        return _streamed(response) if stream else _whole(json.loads(response.read()))
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StrettoError(f"{url} cannot be asked ({reason}); is a gateway running there?") from None
    finally:
        connection.close()


def _body(request: Request, stream: bool) -> Mapping[str, Any]:
    limits = {"usd": request.limits.usd, "calls": request.limits.calls, "seconds": request.limits.seconds}
    if request.limits.usd is not None:
        limits["usd"] = request.limits.usd / PICO
    options: dict[str, Any] = {
        "limits": {name: value for name, value in limits.items() if value is not None},
        "require": {label: list(values) for label, values in request.require.items()},
        "exclude": {label: list(values) for label, values in request.exclude.items()},
        "seed": request.seed,
        "dial": request.dial,
    }
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": message.role, "content": message.text} for message in request.messages],
        "stream": stream,
        "stretto": options,
        **request.params,
    }
    return body | ({} if request.max_tokens is None else {"max_tokens": request.max_tokens})


def _whole(body: Mapping[str, Any]) -> _Told:
    message = body["choices"][0]["message"]
    return _told(
        body["stretto"], message.get("content") or json.dumps(message.get("tool_calls") or ""), False
    )


def _streamed(response: http.client.HTTPResponse) -> _Told:
    pieces, block = [], None
    for event in _events(response):
        if "error" in event:
            raise StrettoError(f"the answer broke off: {event['error'].get('message', event['error'])}")
        block = event.get("stretto", block)
        for choice in event.get("choices", ()):
            piece = choice["delta"].get("content") or ""
            pieces.append(piece)
            click.echo(piece, nl=False)
            sys.stdout.flush()
    click.echo()
    if block is None:
        raise StrettoError("the stream ended before the answer was whole")
    return _told(block, "".join(pieces), True)


def _events(response: http.client.HTTPResponse) -> Iterator[Mapping[str, Any]]:
    for line in response:
        data = line.strip().removeprefix(b"data: ")
        if line.startswith(b"data: ") and data != b"[DONE]":
            yield json.loads(data)


def _told(block: Mapping[str, Any], text: str, streamed: bool) -> _Told:
    cost = round(block["cost_usd"] * PICO)
    return _Told(
        block["run_id"],
        text,
        block["served_by"] or "",
        block.get("why") or "",
        cost,
        block["calls"],
        None,
        streamed,
    )


def _complaint(raw: bytes) -> str:
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(raw)["error"]["message"])
    return raw[:200].decode("utf-8", "replace")
