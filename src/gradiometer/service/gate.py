"""What stands before the application: too large a request is refused unread, and every answer is counted.

What is being sent lies in memory until all of it is there, so that there is a limit to that of all requests too.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TOGETHER = 8
"""How many requests of the largest size may be on their way at once."""


class Gate:
    """An ASGI application around another one.

    Args:
        app: The other one.
        most: Bytes that a request may have.
        count: Told the status of each answer to a POST.
    """

    def __init__(self, app: ASGIApp, *, most: int, count: Callable[[int], None]) -> None:
        self._app, self._most, self._count = app, most, count
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server for each request, and for its own beginning and end."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        begun = False

        async def counted(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self._count(message["status"])
            await send(message)

        length = _length(scope)
        refusal = self._refusal(length)
        held = 0 if refusal or length is None else length
        self._held += held
        try:
            await (refusal or self._app)(scope, receive, counted)
        except Exception:
            if not begun:  # whoever is around answers with 500
                self._count(500)
            raise
        finally:
            self._held -= held

    def _refusal(self, length: int | None) -> PlainTextResponse | None:
        """The answer to a request that is too large, or does not say how large it is, or has no room beside others."""
        if length is None:
            return PlainTextResponse("say how large the request is, in Content-Length, and send it in one piece\n", 411)
        if length > self._most:
            return PlainTextResponse(
                f"the request has {length:,} bytes, and {self._most:,} may come at once; send fewer images\n", 413
            )
        if self._held + length > _TOGETHER * self._most:
            text = f"{self._held:,} bytes of other requests are on their way; come again\n"
            return PlainTextResponse(text, 503, {"Retry-After": "1"})
        return None


def _length(scope: Scope) -> int | None:
    """How many bytes a request says that it has, or None where it does not say."""
    headers = Headers(scope=scope)
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() and "transfer-encoding" not in headers else None
