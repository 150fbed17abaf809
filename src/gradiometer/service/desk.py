"""Where images of all requests wait to go through the model together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from gradiometer.scoring import Row

Score = Callable[[Sequence[str], Tensor], list[Row]]
"""From the names of B images and the images (B, K, H, W) to a row for each."""


class FullError(Exception):
    """More images wait than may; the answer is to come again later."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    """One image on its way to the model."""

    name: str
    image: Tensor
    row: asyncio.Future[Row]


class Desk:
    """Gathers the images of requests that come at the same time into batches, for one thread that owns the model.

    A batch is closed when it is full, or a moment after its first image came. An asynchronous context manager; when it
    is left, what waits is judged first.

    Args:
        judge: What scores a batch. It runs in a thread of its own, one batch at a time.
        batch_size: Images of a batch at most.
        patience: Seconds for which a batch that is not full waits for more.
        most: Images that may wait at once.
        watch: Told the number of images of each batch.

    Example:
        >>> def judge(names, images):
        ...     return [Row(name, score=float(image.sum())) for name, image in zip(names, images, strict=True)]
        >>> async def ask():
        ...     async with Desk(judge) as desk:
        ...         return await asyncio.gather(desk.rows(["a"], [torch.ones(2)]), desk.rows(["b"], [torch.zeros(2)]))
        >>> [[row.score for row in rows] for rows in asyncio.run(ask())]
        [[2.0], [0.0]]
    """

    def __init__(
        self,
        judge: Score,
        *,
        batch_size: int = 64,
        patience: float = 0.005,
        most: int = 1024,
        watch: Callable[[int], None] | None = None,
    ) -> None:
        self._judge, self._batch_size, self._patience, self._most = judge, batch_size, patience, most
        self._watch = watch
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue()
        self._taken = 0

    async def __aenter__(self) -> Self:
        """Open it."""
        self._thread = ThreadPoolExecutor(1, "judge")
        self._work = asyncio.create_task(self._serve())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it behind those who wait."""
        self._queue.put_nowait(None)
        await self._work
        self._thread.shutdown()

    @property
    def taken(self) -> int:
        """Places of images that wait or are being judged."""
        return self._taken

    @property
    def open(self) -> bool:
        """Whether it works."""
        return not self._work.done()

    @contextmanager
    def places(self, images: int) -> Iterator[None]:
        """Places for the images of one request, from before they are decoded until they are judged.

        Args:
            images: How many.

        Raises:
            FullError: If more images would wait than may, and others wait already.
        """
        if self._taken and self._taken + images > self._most:
            raise FullError(f"{self._taken} images wait already, and at most {self._most} may")
        self._taken += images
        try:
            yield
        finally:
            self._taken -= images

    async def rows(self, names: Sequence[str], images: Sequence[Tensor]) -> list[Row]:
        """The rows of some images, when their turn has come. Images of a caller that is cancelled are not judged.

        Args:
            names: Names of the images.
            images: As many images (K, H, W), all of one shape.
        """
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(*pair, loop.create_future()) for pair in zip(names, images, strict=True)]
        for one in waiting:
            self._queue.put_nowait(one)
        return list(await asyncio.gather(*(one.row for one in waiting)))

    async def _serve(self) -> None:
        last = False
        while not last:
            first = await self._queue.get()
            if first is None:
                return
            batch = [first]
            until = asyncio.get_running_loop().time() + self._patience
            with suppress(TimeoutError):
                while len(batch) < self._batch_size and not last:
                    one = await self._next(until)
                    if one is None:
                        last = True
                    else:
                        batch.append(one)
            # Whoever has gone in the meantime is not judged.
            if batch := [one for one in batch if not one.row.done()]:
                await self._answer(batch)

    async def _next(self, until: float) -> _Waiting | None:
        """The next one, which is there already or comes in time; None when the desk is being closed."""
        if self._queue.empty():
            return await asyncio.wait_for(self._queue.get(), until - asyncio.get_running_loop().time())
        return self._queue.get_nowait()

    async def _answer(self, batch: list[_Waiting]) -> None:
        try:
            names, images = [one.name for one in batch], torch.stack([one.image for one in batch])
            if self._watch is not None:
                self._watch(len(batch))
            rows = await asyncio.get_running_loop().run_in_executor(self._thread, self._judge, names, images)
        except Exception as error:  # of whatever kind, it belongs to those who asked, and others come after them
            for one in batch:
                if not one.row.done():
                    one.row.set_exception(error)
            return
        for one, row in zip(batch, rows, strict=True):
            if not one.row.done():
                one.row.set_result(row)
