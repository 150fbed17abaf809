"""Images of several requests go through the model together, in order, and an error finds those whom it concerns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from gradiometer.scoring import Row
from gradiometer.service import Desk, FullError


class Judge:
    """Scores an image by its sum, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[str] = set()

    def __call__(self, names: Sequence[str], images: Tensor) -> list[Row]:
        self.batches.append(len(names))
        self.threads.add(threading.current_thread().name)
        if (images < 0).any():
            raise ValueError("a negative image")
        return [Row(name, score=float(image.sum())) for name, image in zip(names, images, strict=True)]


def image(value: float) -> Tensor:
    return torch.full((2,), value)


def test_images_of_several_requests_go_together() -> None:
    judge, counted = Judge(), []

    async def ask() -> list[list[Row]]:
        async with Desk(judge, batch_size=8, patience=0.2, watch=counted.append) as desk:
            asked = (desk.rows([f"{n}a", f"{n}b"], [image(n), image(n + 0.5)]) for n in range(6))
            return await asyncio.gather(*asked)

    rows = asyncio.run(ask())
    assert [[(row.name, row.score) for row in pair] for pair in rows] == [
        [(f"{n}a", 2.0 * n), (f"{n}b", 2.0 * n + 1)] for n in range(6)
    ]
    assert judge.batches == [8, 4] == counted
    assert len(judge.threads) == 1


def test_one_that_comes_alone_does_not_wait_for_a_full_batch() -> None:
    judge = Judge()

    async def ask() -> None:
        async with Desk(judge, batch_size=1000, patience=0.001) as desk:
            await asyncio.wait_for(desk.rows(["a"], [image(1)]), 30)
            await asyncio.wait_for(desk.rows(["b"], [image(1)]), 30)
            assert desk.open

    asyncio.run(ask())
    assert judge.batches == [1, 1]


def test_an_error_is_that_of_its_batch_alone() -> None:
    judge = Judge()

    async def ask() -> None:
        async with Desk(judge, batch_size=1) as desk:
            found = await asyncio.gather(
                *(desk.rows(["x"], [image(value)]) for value in (1, -1, 2)), return_exceptions=True
            )
            assert [type(each) for each in found] == [list, ValueError, list]
            assert desk.open

    asyncio.run(ask())


def test_without_patience_those_who_are_there_go_together() -> None:
    judge = Judge()

    async def ask() -> None:
        async with Desk(judge, batch_size=8, patience=0) as desk:
            await asyncio.gather(*(desk.rows(["x"], [image(n)]) for n in range(20)))

    asyncio.run(ask())
    assert judge.batches == [8, 8, 4]


def test_images_that_do_not_go_together_are_an_error_of_their_batch() -> None:
    async def ask() -> None:
        async with Desk(Judge(), patience=0) as desk:
            odd = await asyncio.gather(
                desk.rows(["a"], [image(1)]), desk.rows(["b"], [torch.ones(3)]), return_exceptions=True
            )
            assert [type(each) for each in odd] == [RuntimeError, RuntimeError]
            assert (await desk.rows(["c"], [image(2)]))[0].score == 4

    asyncio.run(ask())


def test_too_many_are_sent_away_and_a_large_request_alone_is_not() -> None:
    async def ask() -> None:
        async with Desk(Judge(), most=2) as desk:
            with desk.places(3):
                assert desk.taken == 3
                with pytest.raises(FullError, match="3 images wait already, and at most 2 may"), desk.places(1):
                    pass
            assert desk.taken == 0
            with desk.places(1), desk.places(1), pytest.raises(FullError), desk.places(1):
                pass
            assert desk.taken == 0

    asyncio.run(ask())


def test_a_batch_is_closed_a_moment_after_its_first_image() -> None:
    judge = Judge()

    async def ask() -> float:
        loop = asyncio.get_running_loop()
        async with Desk(judge, batch_size=1000, patience=0.1) as desk:
            began = loop.time()
            first = asyncio.create_task(desk.rows(["a"], [image(1)]))
            others = []
            while not first.done() and loop.time() < began + 20:
                others.append(asyncio.create_task(desk.rows(["b"], [image(1)])))
                await asyncio.sleep(0.02)
            answered = loop.time() - began
            await asyncio.gather(*others)
            return answered

    assert asyncio.run(ask()) < 20  # not as long as others come


def test_whoever_waits_when_it_closes_is_answered() -> None:
    judge = Judge()

    async def ask() -> list[Row]:
        async with Desk(judge, patience=10) as desk:
            asked = asyncio.create_task(desk.rows(["a"], [image(3)]))
            await asyncio.sleep(0)
        return await asked

    assert asyncio.run(asyncio.wait_for(ask(), 5))[0].score == 6


def test_whoever_has_gone_is_not_judged() -> None:
    judge = Judge()

    async def ask() -> None:
        async with Desk(judge, patience=0.05) as desk:
            asked = asyncio.create_task(desk.rows(["a"], [image(3)]))
            await asyncio.sleep(0)
            asked.cancel()
            assert (await desk.rows(["b"], [image(1)]))[0].name == "b"
            assert desk.open

    asyncio.run(ask())
    assert judge.batches == [1]
