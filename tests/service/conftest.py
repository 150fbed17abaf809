"""A calibrated detector that costs nothing, and a server that listens on this machine while a test runs."""

from __future__ import annotations

import io
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image
from torch import nn

from gradiometer.detectors import MSP
from gradiometer.service import listen

File = tuple[str, bytes]

_BOUNDARY = "a-boundary-that-is-in-no-image"
FORM = f"multipart/form-data; boundary={_BOUNDARY}"


def form_of(files: Sequence[File], field: str = "images") -> bytes:
    """The body of a form with files."""
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    text: str
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        """The text as JSON."""
        return json.loads(self.text)


@dataclass(frozen=True)
class Client:
    """Asks a server, with nothing but the standard library."""

    address: str

    def get(self, path: str) -> Answer:
        """GET."""
        return self._ask(urllib.request.Request(f"{self.address}{path}"))

    def judge(self, files: Sequence[File], field: str = "images") -> Answer:
        """POST files as a form."""
        boundary = "a-boundary-that-is-in-no-image"
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n".encode()
            + content
            + b"\r\n"
            for name, content in files
        ]
        body = b"".join(parts) + f"--{boundary}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self._ask(urllib.request.Request(f"{self.address}/judge", data=body, headers=kind))

    def _ask(self, request: urllib.request.Request) -> Answer:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, answer.read().decode(), dict(answer.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode(), dict(error.headers))


Serving = Callable[..., Any]


@contextmanager
def serving(app: Any) -> Iterator[Client]:
    """Serve an application at a free port."""
    with listen("127.0.0.1", 0) as socket:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
        thread.start()
        try:
            yield Client(f"http://127.0.0.1:{socket.getsockname()[1]}")
        finally:
            server.should_exit = True
            thread.join()


def png(pixels: np.ndarray) -> bytes:
    """An image file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def detector() -> MSP:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5)).eval()
    return MSP(model).calibrate(torch.rand(50, 1, 8, 8), 0.3)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
