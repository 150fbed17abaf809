"""`gradiometer serve`."""

from __future__ import annotations

from dataclasses import dataclass

from gradiometer.cli import artefacts
from gradiometer.cli.artefacts import DEVICE
from gradiometer.cli.command import Command, option
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import InputError

_LAST_PORT = 65535


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the command."""

    detector: str = option("file that fit and calibrate wrote")
    host: str = option("address to listen at; 0.0.0.0 is every one of this machine", "127.0.0.1")
    port: int = option("port to listen at; 0 is any that is free", 8000)
    resize: bool = option(
        "resize images of another size; they are anyway when fit did so with --size, and refused otherwise", False
    )
    batch_size: int = option("images that go through the model at once, from whichever requests", 64, group="limits")
    patience: float = option(
        "milliseconds for which a batch that is not full waits for other requests", 5.0, group="limits"
    )
    waiting: int = option("images that may wait; requests beyond are answered with 503", 1024, group="limits")
    megabytes: float = option("size of a request; larger ones are answered with 413", 64.0, group="limits")
    megapixels: float = option("size of an image", 64.0, group="limits")
    model: str | None = option("the model, if it is elsewhere now; the one that fit noted when absent", None)
    device: str = option(DEVICE, "auto")


def run(options: Options, terminal: Terminal) -> None:
    """Serve until interrupted."""
    from gradiometer.service import Limits, listen, make_app, serve

    if not 0 <= options.port <= _LAST_PORT:
        raise InputError(f"port is {options.port}; give 0 to {_LAST_PORT}")
    limits = Limits(
        batch_size=options.batch_size,
        patience=options.patience / 1000,
        waiting=options.waiting,
        megabytes=options.megabytes,
        megapixels=options.megapixels,
    )
    detector, origin = artefacts.load_calibrated(options.detector, options.model, options.device)
    app = make_app(detector, resize=options.resize or origin.size is not None, limits=limits)
    with listen(options.host, options.port) as socket:
        host, port = socket.getsockname()[:2]
        address = f"[{host}]" if ":" in host else host
        terminal.show(f"{type(detector).__name__} at http://{address}:{port}: a page at /, its description at /docs")
        serve(app, socket)


COMMAND = Command(
    name="serve",
    summary="answer over HTTP whether to trust a prediction",
    purpose="""
        Put a calibrated detector behind HTTP. POST /judge takes image files and answers with a row for each, as score
        writes them; images of requests that come at the same time go through the model together. GET / is a page for
        people, /docs the description for programs, /metrics the counters for Prometheus, /health for the one who
        starts it. There is no log-in: to be reached from elsewhere, put it behind a proxy that has one.
    """,
    examples="""
        # and from another terminal: curl -F images=@photo.png http://127.0.0.1:8000/judge
        gradiometer serve --detector guard.safetensors

        # for other machines, up to 256 images at once, on a graphics card
        gradiometer serve --detector guard.safetensors --host 0.0.0.0 --batch-size 256 --device cuda
    """,
    options=Options,
    run=run,
)
