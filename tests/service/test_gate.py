"""What is on its way at once is bounded, whoever sends it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gradiometer.service.gate import _TOGETHER, Gate

MOST = 1000


def scope(length: int) -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-length", str(length).encode())]}


async def nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def test_requests_for_which_there_is_no_room_are_asked_to_come_again() -> None:
    async def ask() -> tuple[list[int], list[int]]:
        done = asyncio.Event()
        counted: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await done.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        gate = Gate(app, most=MOST, count=counted.append)

        async def post(length: int) -> int:
            statuses: list[int] = []

            async def send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])
                    assert message["status"] != 503 or (b"retry-after", b"1") in message["headers"]

            await gate(scope(length), nothing, send)
            return statuses[0]

        held = [asyncio.create_task(post(MOST)) for _ in range(_TOGETHER)]
        await asyncio.sleep(0)
        assert await post(1) == 503
        assert await post(MOST + 1) == 413
        done.set()
        first = [await task for task in held]
        return [*first, await post(MOST)], counted

    statuses, counted = asyncio.run(ask())
    assert statuses == [200] * (_TOGETHER + 1)
    assert sorted(counted) == sorted([503, 413, *statuses])


def test_room_is_given_back_when_the_application_fails() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("broken")

    async def ask() -> list[int]:
        counted: list[int] = []
        gate = Gate(app, most=MOST, count=counted.append)
        for _ in range(_TOGETHER + 2):
            with pytest.raises(RuntimeError):
                await gate(scope(MOST), nothing, nothing)  # type: ignore[arg-type]
        return counted

    assert asyncio.run(ask()) == [500] * (_TOGETHER + 2)
