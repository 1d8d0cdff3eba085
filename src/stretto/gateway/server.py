"""What uvicorn's HTTP protocol lacks: bounds on a request's head, no odd request targets, an answer in one write.

Give it to uvicorn as `http=http_protocol()`. A call whose head arrives in one read, as nearly all do, pays two comparisons for
the bounds. The head of an answer leaves together with the first piece of its body, as the ASGI specification has it.
"""

import asyncio
import re
from typing import Any, Final

__all__ = ["HEAD_LIMIT", "WebSocketProtocol", "http_protocol"]

HEAD_LIMIT: Final = 64 * 1024
"""Bytes that a request line and its headers may have, give or take one read from the socket."""

_TOO_LARGE: Final = b"The headers are too large."
_REFUSAL: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(_TOO_LARGE), _TOO_LARGE)
)
_LINGER: Final = 5.0
"""Seconds that a client has to finish a body that was refused."""
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def http_protocol(head_seconds: float = 10.0) -> type[asyncio.Protocol]:
    """uvicorn's protocol over httptools, with bounds. `head_seconds`: how long a client may take until its head is whole."""
    from httptools import HttpParserError
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    cycle = _cycle()

    class HttpProtocol(HttpToolsProtocol):
        _head_size = 0
        _head_open = True
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._head_timer = self.loop.call_later(head_seconds, self._too_slow)

        def connection_lost(self, exc: Exception | None) -> None:
            self._unset_head_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            answered: Any = self.cycle
            if answered is not None and answered.response_complete and not answered.keep_alive:
                return  # the rest of a body that was refused
            super().data_received(data)
            if not self._head_open:
                return
            self._head_size += len(data)
            if self._head_size > HEAD_LIMIT:
                if not self.transport.is_closing():
                    self.transport.write(_REFUSAL)
                    self.transport.close()
            elif self._head_timer is None and self._head_size:
                self._head_timer = self.loop.call_later(head_seconds, self._too_slow)

        def on_message_begin(self) -> None:
            self._head_size, self._head_open = 0, True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._head_open = False
            if self._head_timer is not None:
                self._unset_head_timer()
            # RFC 9112, 3.2: a target that names another place, or no host at all, could be read in two ways
            if self.url[:1] != b"/" and self.url != b"*":
                raise HttpParserError("the request target is not a path")
            version, named = self.parser.get_http_version(), False
            for name, value in self.headers:
                if name == b"host":
                    named = True
                # 6.1: other codings than chunked are not undone here, and HTTP/1.0 knows none
                elif name == b"transfer-encoding" and (version != "1.1" or value.lower() != b"chunked"):
                    raise HttpParserError("the transfer coding is not served")
            if version != "1.0" and not (version == "1.1" and named):
                raise HttpParserError("the version is not served, or the host header is missing")
            super().on_headers_complete()
            if not (self.parser.should_upgrade() and self._should_upgrade()):
                self.cycle.__class__ = cycle  # uvicorn names the class of what it makes there itself

        def _unset_head_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _too_slow(self) -> None:
            self._head_timer = None
            if self._head_open and not self.transport.is_closing():
                self.transport.close()

    return HttpProtocol


class WebSocketProtocol(asyncio.Protocol):
    """uvicorn's protocol for one WebSocket. Its library is imported with the first of them (20 ms), never if there is none."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """One of uvicorn's."""
        from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

        return WebSocketsSansIOProtocol(*args, **kwargs)


def _cycle() -> type[Any]:
    """uvicorn's exchange, with an answer that leaves in fewer steps: one check of all header values, and one write."""
    from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

    class Cycle(RequestResponseCycle):
        held = b""  # the head, until the first piece of the body

        async def send(self, message: Any) -> None:
            if self.flow.write_paused and not self.disconnected:
                await self.flow.drain()
            if self.disconnected:
                return
            if not self.response_started:
                self.held = self.head(message["status"], message["headers"])
                self.response_started = True
                self.waiting_for_100_continue = False
                return
            if self.response_complete:
                raise RuntimeError("the answer is complete, and yet more of it is sent")
            data, more = message.get("body", b""), message.get("more_body", False)
            if self.scope["method"] == "HEAD":
                data, self.expected_content_length = b"", 0
            elif self.chunked_encoding:
                data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
                if not more:
                    data += b"0\r\n\r\n"
            else:
                self.expected_content_length -= len(data)
            if self.expected_content_length < 0 or (self.expected_content_length and not more):
                raise RuntimeError("the body is not as long as its content-length")
            if self.held:
                data, self.held = self.held + data, b""
            if data:
                self.transport.write(data)
            if not more:
                self.response_complete = True
                self.message_event.set()
                if not self.keep_alive:
                    if self.more_body:
                        self.linger()
                    else:
                        self.transport.close()
                self.on_response()

        def linger(self) -> None:
            """End our side, and let the rest of the request come in for a while.

            RFC 9112, 9.6: to close with bytes unread is to reset the connection, and to lose the answer on its way.
            """
            self.transport.write_eof()
            self.flow.resume_reading()
            asyncio.get_running_loop().call_later(_LINGER, self.transport.close)

        def head(self, status: int, headers: Any) -> bytes:
            """Status line and headers. Raises `RuntimeError` for a control character, which could end a header early."""
            given = [*self.default_headers, *headers]
            lines = [b"%b: %b" % pair for pair in given]
            if _CONTROL.search(b"".join(lines)):
                raise RuntimeError("a header of the answer holds a control character")
            fields = dict(given)
            length = fields.get(b"content-length")
            if length is not None:
                self.chunked_encoding, self.expected_content_length = False, int(length)
            elif self.scope["method"] != "HEAD" and status not in (204, 304):
                self.chunked_encoding = True
                lines.append(b"transfer-encoding: chunked")
            if fields.get(b"connection") == b"close":
                self.keep_alive = False
            elif not self.keep_alive:
                lines.append(b"connection: close")
            return STATUS_LINE[status] + b"\r\n".join(lines) + b"\r\n\r\n"

    return Cycle
