"""A gateway that is told to stop twice."""

import asyncio
import json
import signal
from pathlib import Path

from tests.acceptance.served import Served, command, served
from tests.acceptance.upstream import Does, upstream


async def refuses(gateway: Served) -> None:
    """Wait until nobody listens any more."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        except ConnectionError:
            return
        writer.close()
        await asyncio.sleep(0.01)


def test_a_second_signal_ends_open_calls_at_once_and_records_them(tmp_path: Path) -> None:
    """Ctrl+C twice does not wait for the grace; the open stream ends with its error event, the run is settled."""

    async def main() -> bytes:
        async with upstream(lambda body: Does("drip", beat=0.02)) as slow:
            worker = f'[[worker]]\nid = "a"\nendpoints = [{{ base_url = "{slow.base_url}" }}]\n'
            with served(tmp_path, worker) as gateway:
                await gateway.started()
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                body = json.dumps(
                    {"model": "a", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
                ).encode()
                writer.write(
                    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b"
                    % (len(body), body)
                )
                await reader.readuntil(b'"content":')
                assert gateway.process is not None
                gateway.process.send_signal(signal.SIGINT)
                await refuses(gateway)
                gateway.process.send_signal(signal.SIGINT)
                heard = await reader.read()
                writer.close()
                assert await asyncio.to_thread(gateway.process.wait, 20) == 0
                (run,) = await asyncio.to_thread(command, gateway, "runs", "list")
                assert (run["status"], run["calls"]) == ("failed", 1)
                assert (await asyncio.to_thread(command, gateway, "runs", "verify"))["problems"] == []
                return heard

    heard = asyncio.run(main())
    assert b'"shutting_down"' in heard
    assert b"[DONE]" not in heard
