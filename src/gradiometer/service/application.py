"""The application: what can be asked of a detector over HTTP."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any

import torch
from fastapi import FastAPI, File, HTTPException, Request, Response, UploadFile
from fastapi.responses import HTMLResponse, PlainTextResponse
from PIL import Image
from starlette.concurrency import run_in_threadpool
from torch import Tensor

from gradiometer import __version__, data
from gradiometer.data.decode import Form
from gradiometer.errors import InputError, ModelError, NotFittedError
from gradiometer.scoring import Row, judged
from gradiometer.service.desk import Desk, FullError
from gradiometer.service.metrics import Metrics

if TYPE_CHECKING:
    from gradiometer.detectors import Detector

_AWAY = 1
"""Seconds after which those who found the desk full are asked to come again."""


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
        for name, least in (("batch_size", 1), ("waiting", 1), ("patience", 0)):
            if not getattr(self, name) >= least:
                raise InputError(f"{name} is {getattr(self, name)}; give {least} or more")
        for name in ("megabytes", "megapixels"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; give a number above 0")


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
        desk = Desk(
            judge,
            batch_size=limits.batch_size,
            patience=limits.patience,
            most=limits.waiting,
            watch=metrics.batch,
        )
        async with desk:
            # What is made once for a model is made before the first request comes.
            (row,) = await desk.rows(["noise"], [torch.rand(form.channels, form.height, form.width)])
            if row.error is not None:
                raise ModelError(f"the detector cannot judge an image of noise: {row.error}")
            app.state.desk = desk
            yield

    app = FastAPI(
        title="Gradiometer",
        version=__version__,
        summary=f"{about['detector']}: can this prediction be trusted?",
        lifespan=lifespan,
    )

    @app.post("/judge", responses={413: {"description": "Too large"}, 503: {"description": "Too many wait"}})
    async def judge_images(
        request: Request, images: Annotated[list[UploadFile], File(description="one or more image files")]
    ) -> dict[str, Any]:
        """A row for each image, in order: the verdict, or the reason why there is none."""
        began = time.perf_counter()
        files = [(each.filename or f"image {number}", await each.read()) for number, each in enumerate(images)]
        rows = await _rows(request.app.state.desk, files, form, limits)
        metrics.request(rows, time.perf_counter() - began)
        return {"false_alarm_rate": about["false_alarm_rate"], "rows": [asdict(row) for row in rows]}

    @app.get("/detector")
    async def describe() -> dict[str, Any]:
        """What judges here: its class, its false-alarm rate, and the images that it takes."""
        return about

    @app.get("/health", response_class=PlainTextResponse)
    async def health(request: Request) -> str:
        """Answers while images are judged."""
        return f"ok, {request.app.state.desk.pending} images wait\n"

    @app.get("/metrics", response_class=PlainTextResponse)
    async def expose() -> Response:
        """Counters and histograms in the text format of Prometheus."""
        return Response(metrics.text(), media_type=metrics.media_type)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        return resources.files("gradiometer.service").joinpath("page.html").read_text(encoding="utf-8")

    _refuse_large(app, limits)
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


def _refuse_large(app: FastAPI, limits: Limits) -> None:
    """Refuse requests by what they say of their size, before any of it is read."""

    @app.middleware("http")
    async def check(request: Request, follow: Callable[[Request], Any]) -> Response:
        if request.method == "POST":
            length = request.headers.get("content-length", "")
            if not length.isdigit():
                return PlainTextResponse("say how large the request is (Content-Length)\n", 411)
            if int(length) > limits.megabytes * 1e6:
                return PlainTextResponse(
                    f"the request has {int(length):,} bytes where {limits.megabytes:g} MB may come at once; send fewer "
                    "images\n",
                    413,
                )
        answer: Response = await follow(request)
        return answer


async def _rows(desk: Desk, files: Sequence[tuple[str, bytes]], form: Form, limits: Limits) -> list[Row]:
    """The rows of files; those that are no images of the right form do not get to the desk."""
    decoded = await run_in_threadpool(lambda: [_decoded(content, form, limits.megapixels) for _, content in files])
    named = [(name, image) for (name, _), image in zip(files, decoded, strict=True) if isinstance(image, Tensor)]
    try:
        found = iter(await desk.rows([name for name, _ in named], [image for _, image in named]))
    except FullError as error:
        raise HTTPException(503, f"{error}; come again", {"Retry-After": str(_AWAY)}) from error
    return [
        next(found) if isinstance(image, Tensor) else Row(name, error=image)
        for (name, _), image in zip(files, decoded, strict=True)
    ]


def _decoded(content: bytes, form: Form, megapixels: float) -> Tensor | str:
    """An image in [0, 1] of the form, or what is wrong with it."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
    except Exception:  # decoding says what is wrong
        width = height = 0
    if width * height > megapixels * 1e6:
        return f"the image has {width} x {height} pixels, more than {megapixels:g} megapixels; send a smaller one"
    if width and not form.resize and (height, width) != (form.height, form.width):
        return (
            f"the image has {height} x {width} pixels where the detector was fitted on {form.height} x {form.width}; "
            "send it as the images of the fit were"
        )
    try:
        return data.to_unit(torch.tensor(form.apply(content)))
    except InputError as error:
        return str(error)
