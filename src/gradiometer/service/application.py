"""The application: what can be asked of a detector over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any

import torch
from fastapi import FastAPI, File, HTTPException, Request, Response, UploadFile
from fastapi.responses import HTMLResponse, PlainTextResponse
from starlette.concurrency import run_in_threadpool
from torch import Tensor

from gradiometer import __version__, given
from gradiometer.data.decode import Form
from gradiometer.errors import InputError, ModelError, NotFittedError
from gradiometer.scoring import Row, judged
from gradiometer.service.desk import Desk, FullError
from gradiometer.service.gate import Gate
from gradiometer.service.metrics import Metrics
from gradiometer.service.uploads import Uploads

if TYPE_CHECKING:
    from gradiometer.detectors import Detector

_AWAY = 1
"""Seconds after which those who found the desk full are asked to come again."""

_DECODERS = 2
"""Requests whose images are decoded at once: each holds the pixels of one image."""

_LOOK = 0.5
"""Seconds between two looks whether a client that waits is still there."""

_GONE = 499
"""What proxies call a client that has gone."""

_TEXT: dict[str, Any] = {"description": "Too large, or of unknown size."}


@dataclass(frozen=True)
class Answer:
    """What is answered about the images of a request.

    Attributes:
        false_alarm_rate: Share of known images that are flagged.
        rows: One for each image, in order.
    """

    false_alarm_rate: float
    rows: list[Row]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much is taken at once.

    Attributes:
        batch_size: Images that go through the model at once, from whichever requests.
        patience: Seconds for which a batch that is not full waits for the images of other requests.
        waiting: Images that may wait; beyond, requests are answered with 503 until there is room.
        megabytes: Size of a request.
        megapixels: Size of an image when it is decoded.

    Raises:
        InputError: If one is out of range.
    """

    batch_size: int = 64
    patience: float = 0.005
    waiting: int = 1024
    megabytes: float = 64.0
    megapixels: float = 64.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("batch_size", "waiting"):
            given.whole(name, getattr(self, name))
        given.number("patience", self.patience, "seconds, 0 or more", least=0)
        for name in ("megabytes", "megapixels"):
            given.number(name, getattr(self, name), "a number above 0", above=0)


def make_app(detector: Detector, *, resize: bool = False, limits: Limits | None = None) -> FastAPI:
    """The application of a detector, to be served as it is.

    `POST /judge` takes image files in the field `images` and answers with a row for each: prediction, confidence,
    score, p-value, whether to trust it, and the reason; or the error of an image that cannot be scored. `GET /detector`
    says what judges, `GET /health` whether it does, `GET /metrics` what came and went, for Prometheus; `GET /` is a
    page for people, and `GET /docs` the description of all of it.

    Args:
        detector: A calibrated detector of images. It and its model belong to the application from then on.
        resize: Whether images of another size than those of the fit are resized, which is right when those were resized
            too. Else they are refused: to a detector a resized image is another image.
        limits: How much is taken at once.

    Returns:
        The application.

    Raises:
        NotFittedError: If the detector is not calibrated.
        InputError: If the detector is one of something else than images.
    """
    limits = limits or Limits()
    form = _form(detector, resize=resize)
    about = _about(detector, form)
    metrics = Metrics()

    def judge(names: Sequence[str], images: Tensor) -> list[Row]:
        return judged(detector, names, images)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # What is made once for a model is made before the first request comes.
        (row,) = await run_in_threadpool(judge, ["noise"], torch.rand(1, form.channels, form.height, form.width))
        if row.error is not None:
            raise ModelError(f"the detector cannot judge an image of noise: {row.error}")
        async with Desk(
            judge,
            batch_size=limits.batch_size,
            patience=limits.patience,
            most=limits.waiting,
            watch=metrics.batch,
        ) as desk:
            app.state.desk = desk
            yield

    app = FastAPI(
        title="Gradiometer",
        version=__version__,
        summary=f"{about['detector']}: can this prediction be trusted?",
        lifespan=lifespan,
    )
    app.add_middleware(Gate, most=int(limits.megabytes * 1e6), count=metrics.answer)
    uploads, decoders = Uploads(form, limits.megapixels), asyncio.Semaphore(_DECODERS)

    @app.post("/judge", responses={411: _TEXT, 413: _TEXT, 503: {"description": "Too many wait: come again."}})
    async def judge_images(
        request: Request, images: Annotated[list[UploadFile], File(description="one or more image files")]
    ) -> Answer:
        """A row for each image, in order: the verdict, or the reason why there is none."""
        began = time.perf_counter()
        desk: Desk = request.app.state.desk
        try:
            with desk.places(len(images)):
                async with decoders:
                    found = await run_in_threadpool(_decoded, uploads, images)
                names = [_name(each.filename or f"image {number}") for number, each in enumerate(images)]
                rows = await _while_there(request, _rows(desk, names, found))
        except FullError as error:
            raise HTTPException(503, f"{error}; come again", {"Retry-After": str(_AWAY)}) from error
        metrics.request(rows, time.perf_counter() - began)
        return Answer(about["false_alarm_rate"], rows)

    @app.get("/detector")
    async def describe() -> dict[str, Any]:
        """What judges here: its class, its false-alarm rate, and the images that it takes."""
        return about

    @app.get("/health", response_class=PlainTextResponse)
    @app.head("/health", include_in_schema=False)
    async def health(request: Request) -> Response:
        """Whether images are judged: 200, or 503 when the thread that does has died."""
        desk: Desk = request.app.state.desk
        if not desk.open:
            return PlainTextResponse("nobody judges any more: start the service again\n", 503)
        return PlainTextResponse(f"ok, {desk.taken} images wait\n")

    @app.get("/metrics", response_class=PlainTextResponse)
    async def expose() -> Response:
        """Counters and histograms in the text format of Prometheus."""
        return Response(metrics.text(), media_type=metrics.media_type)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        return resources.files("gradiometer.service").joinpath("page.html").read_text(encoding="utf-8")

    return app


def _form(detector: Detector, *, resize: bool) -> Form:
    if detector.calibration is None:
        raise NotFittedError("the detector has no false-alarm rate yet; calibrate it before serving it")
    shape = detector.shape
    if shape is None or shape[0] not in (1, 3):
        raise InputError(
            "the detector was not fitted on images (1 or 3 channels, height, width); only those are served"
        )
    return Form(*shape, resize=resize)


def _about(detector: Detector, form: Form) -> dict[str, Any]:
    assert detector.calibration is not None
    return {
        "detector": type(detector).__name__,
        "model": type(detector.model).__name__,
        "false_alarm_rate": detector.calibration.false_alarm_rate,
        "threshold": detector.calibration.threshold,
        "calibrated_on": len(detector.calibration.scores),
        "channels": form.channels,
        "height": form.height,
        "width": form.width,
        "resizes": form.resize,
        "version": __version__,
    }


def _decoded(uploads: Uploads, files: Sequence[UploadFile]) -> list[Tensor | str]:
    """What is in the files, which are read here too: reading from disk would hold up whoever else asks."""
    return [uploads.decode(each.file.read()) for each in files]


def _name(given: str) -> str:
    """A name that can be written down, whatever the client called it."""
    return given.encode("utf-8", "replace").decode("utf-8")


async def _rows(desk: Desk, names: Sequence[str], found: Sequence[Tensor | str]) -> list[Row]:
    """The rows of images and of what is none; only images get to the desk."""
    images = [(name, image) for name, image in zip(names, found, strict=True) if isinstance(image, Tensor)]
    rows = iter(await desk.rows([name for name, _ in images], [image for _, image in images]))
    return [
        next(rows) if isinstance(image, Tensor) else Row(name, error=image)
        for name, image in zip(names, found, strict=True)
    ]


async def _while_there(request: Request, work: Coroutine[Any, Any, list[Row]]) -> list[Row]:
    """The result of some work, which is given up when the client has gone.

    Raises:
        HTTPException: It has gone; the answer is for the counters alone.
    """
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_LOOK)
            if not task.done() and await request.is_disconnected():
                raise HTTPException(_GONE, "the client has gone")
        return task.result()
    finally:
        task.cancel()  # also when the request itself is called off, as it is when the server stops
