"""Answers over HTTP are the rows of the detector; what cannot be answered says why, and harms nobody else."""

from __future__ import annotations

import asyncio
import copy
import http.client
import re
import socket
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gradiometer import data, service
from gradiometer.detectors import MSP
from gradiometer.errors import InputError, ModelError, NotFittedError
from gradiometer.scoring.rows import rows_of
from gradiometer.service import Limits, application, make_app
from tests.service.conftest import FORM, form_of, png, serving


def expected(detector: MSP, pixels: np.ndarray) -> list[dict[str, object]]:
    """The rows that Python gives."""
    verdict = detector.judge(data.to_unit(torch.from_numpy(pixels)[:, None]))
    return [vars(row) for row in rows_of([f"{number}.png" for number in range(len(pixels))], verdict)]


def alike(found: dict[str, object], wanted: dict[str, object]) -> bool:
    """Whether two rows are the same, but for the rounding of another batch."""
    return found == {
        key: pytest.approx(value, rel=1e-5) if isinstance(value, float) else value for key, value in wanted.items()
    }


def test_rows_are_those_of_judge(detector: MSP, pixels: np.ndarray) -> None:
    with serving(make_app(detector)) as client:
        answer = client.judge([(f"{number}.png", png(image)) for number, image in enumerate(pixels)])
    assert answer.status == 200
    assert answer.json["false_alarm_rate"] == 0.3
    wanted = expected(detector, pixels)
    assert len(answer.json["rows"]) == len(wanted)
    assert all(map(alike, answer.json["rows"], wanted))
    assert {row["trustworthy"] for row in answer.json["rows"]} == {True, False}


def test_requests_at_the_same_time_get_their_own_rows(detector: MSP, pixels: np.ndarray) -> None:
    wanted = expected(detector, pixels)
    with serving(make_app(detector, limits=Limits(batch_size=7, patience=0.05))) as client:

        def ask(number: int) -> dict[str, object]:
            return client.judge([(f"{number}.png", png(pixels[number]))]).json["rows"][0]

        with ThreadPoolExecutor(20) as threads:
            found = list(threads.map(ask, range(len(pixels))))
        text = client.get("/metrics").text
    assert all(map(alike, found, wanted))
    batches = float(re.search(r"^gradiometer_batch_images_count (.+)$", text, re.MULTILINE)[1])
    assert batches < len(pixels)  # some went together


def test_an_odd_image_is_a_row_with_the_reason(detector: MSP, pixels: np.ndarray) -> None:
    files = [
        ("good.png", png(pixels[0])),
        ("broken.png", png(pixels[1])[:60]),
        ("large.png", png(np.zeros((9, 12), np.uint8))),
        ("notes.txt", b"not an image"),
        ("empty.png", b""),
        ("colour.png", png(np.repeat(pixels[0][..., None], 3, 2))),
    ]
    with serving(make_app(detector)) as client:
        rows = client.judge(files).json["rows"]
    assert [row["name"] for row in rows] == [name for name, _ in files]
    reasons = (
        None,
        "cannot be decoded",
        "9 x 12 pixels where the detector was fitted on 8 x 8",
        "not an image of a format that Pillow reads",
        "zero bytes",
        None,
    )
    for row, reason in zip(rows, reasons, strict=True):
        assert (row["error"] is None) if reason is None else (reason in row["error"]), row
        assert (row["score"] is None) == (reason is not None)
    assert rows[5]["score"] == pytest.approx(rows[0]["score"], abs=0.01)


def test_other_sizes_are_resized_when_those_of_the_fit_were(detector: MSP) -> None:
    with serving(make_app(detector, resize=True)) as client:
        rows = client.judge([("grey.png", png(np.full((16, 24), 90, np.uint8)))]).json["rows"]
        assert client.get("/detector").json["resizes"] is True
    wanted = expected(detector, np.full((1, 8, 8), 90, np.uint8))
    assert rows[0]["score"] == pytest.approx(wanted[0]["score"], rel=1e-5)


def test_an_image_that_the_model_refuses_does_not_take_the_others_with_it(pixels: np.ndarray) -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x.flatten(1)) / (x.amax((1, 2, 3)) < 1).unsqueeze(1)

    torch.manual_seed(0)
    detector = MSP(Picky().eval()).calibrate(0.9 * torch.rand(50, 1, 8, 8), 0.1)
    white, dark = np.full((8, 8), 255, np.uint8), np.minimum(pixels[0], 200)
    with serving(make_app(detector)) as client:
        rows = client.judge([("white.png", png(white)), ("dark.png", png(dark))]).json["rows"]
    assert "NaN or infinite" in rows[0]["error"]
    assert rows[1]["error"] is None


def test_what_is_too_much_is_refused_before_it_is_read(detector: MSP, pixels: np.ndarray) -> None:
    limits = Limits(megabytes=0.001, megapixels=0.0001)
    with serving(make_app(detector, limits=limits)) as client:
        answer = client.judge([("noise.bin", bytes(2000))])
        assert (answer.status, "bytes, and 1,000 may come at once" in answer.text) == (413, True)
        row = client.judge([("large.png", png(np.zeros((20, 20), np.uint8)))]).json["rows"][0]
    assert "20 x 20 pixels, more than 0.0001 megapixels" in row["error"]


def test_requests_of_unknown_size_are_refused(detector: MSP, pixels: np.ndarray) -> None:
    with serving(make_app(detector)) as client:
        connection = http.client.HTTPConnection(client.address.removeprefix("http://"))
        for headers in ({"Transfer-Encoding": "chunked"}, {"Transfer-Encoding": "chunked", "Content-Length": "10"}):
            connection.request("POST", "/judge", iter([b"x" * 10]), headers, encode_chunked=True)
            answer = connection.getresponse()
            assert (answer.status, b"Content-Length" in answer.read()) == (411, True)
            connection.close()
        text = client.get("/metrics").text
    assert 'gradiometer_requests_total{code="411"} 2.0' in text


def test_no_other_program_is_run_for_an_image(detector: MSP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    with serving(make_app(detector)) as client:
        row = client.judge([("drawing.eps", postscript)]).json["rows"][0]
    assert "not an image of a format" in row["error"]
    assert not (tmp_path / "ran").exists()


def test_whoever_hangs_up_is_not_waited_for(detector: MSP, pixels: np.ndarray) -> None:
    app = make_app(detector, limits=Limits(patience=3, batch_size=2))
    with serving(app) as client:
        host, port = client.address.removeprefix("http://").split(":")
        body = form_of([("gone.png", png(pixels[0]))])
        with socket.create_connection((host, int(port))) as line:
            line.sendall(
                f"POST /judge HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
                f"Content-Type: {FORM}\r\n\r\n".encode()
                + body
            )
            while client.get("/health").text != "ok, 1 images wait\n":
                pass
        while client.get("/health").text != "ok, 0 images wait\n":
            pass
        text = client.get("/metrics").text
    assert 'gradiometer_requests_total{code="499"} 1.0' in text
    assert 'outcome="trusted"} 0.0' in text


def test_names_that_cannot_be_written_are_mended(detector: MSP, pixels: np.ndarray) -> None:
    with serving(make_app(detector)) as client:
        body = form_of([("+2AA-.png", png(pixels[0]))])
        request = urllib.request.Request(
            f"{client.address}/judge", data=body, headers={"Content-Type": f"{FORM}; charset=utf-7"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200


def test_a_detector_that_can_judge_nothing_does_not_start(detector: MSP) -> None:
    broken = copy.deepcopy(detector)
    app = make_app(broken)
    torch.nn.init.zeros_(broken.model[1].weight)

    async def begin() -> None:
        async with app.router.lifespan_context(app):
            pass

    with pytest.raises(ModelError, match="cannot judge an image of noise: the weights"):
        asyncio.run(begin())


def test_forms_without_images_say_what_is_missing(detector: MSP, pixels: np.ndarray) -> None:
    with serving(make_app(detector)) as client:
        answer = client.judge([("a.png", png(pixels[0]))], field="photos")
        assert answer.status == 422
        assert answer.json["detail"][0]["loc"] == ["body", "images"]
        assert client.get("/judge").status == 405


def test_when_too_many_wait_the_next_are_asked_to_come_again(detector: MSP, pixels: np.ndarray) -> None:
    app = make_app(detector, limits=Limits(waiting=2, patience=0.3, batch_size=64))
    with serving(app) as client, ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda number: client.judge([("a.png", png(pixels[number]))]), range(12)))
        refused = [answer for answer in answers if answer.status == 503]
        assert {answer.status for answer in answers} == {200, 503}
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
        assert "images wait already, and at most 2 may" in refused[0].text
        assert client.judge([("a.png", png(pixels[0]))]).status == 200


def test_what_came_and_went_is_counted(detector: MSP, pixels: np.ndarray) -> None:
    with serving(make_app(detector)) as client:
        before = client.get("/metrics").text
        rows = client.judge([*((f"{n}.png", png(image)) for n, image in enumerate(pixels)), ("x", b"")]).json["rows"]
        text = client.get("/metrics").text
    flagged = sum(row["trustworthy"] is False for row in rows)
    assert 0 < flagged < len(pixels)
    assert 'gradiometer_images_total{outcome="flagged"} 0.0' in before
    assert f'gradiometer_images_total{{outcome="flagged"}} {flagged}.0' in text
    assert f'gradiometer_images_total{{outcome="trusted"}} {len(pixels) - flagged}.0' in text
    assert 'gradiometer_images_total{outcome="failed"} 1.0' in text
    below = sum(row["error"] is None and row["p_value"] <= 0.1 for row in rows)
    assert f'gradiometer_p_value_bucket{{le="0.1"}} {below}.0' in text
    assert f"gradiometer_p_value_count {len(pixels)}.0" in text
    assert "gradiometer_request_seconds_count 1.0" in text


def test_it_says_what_it_is(detector: MSP) -> None:
    with serving(make_app(detector)) as client:
        about = client.get("/detector").json
        assert (about["detector"], about["false_alarm_rate"], about["calibrated_on"]) == ("MSP", 0.3, 50)
        assert (about["channels"], about["height"], about["width"], about["resizes"]) == (1, 8, 8, False)
        assert about["threshold"] == detector.calibration.threshold
        assert client.get("/health").text == "ok, 0 images wait\n"
        paths = client.get("/openapi.json").json["paths"]
        assert set(paths) == {"/judge", "/detector", "/health", "/metrics"}
        assert "trustworthy" in client.get("/openapi.json").text
        page = client.get("/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page.text)  # nothing is fetched from elsewhere


def test_detectors_that_cannot_be_served_are_refused(detector: MSP) -> None:
    with pytest.raises(NotFittedError, match="no false-alarm rate yet; calibrate it"):
        make_app(MSP(detector.model))
    vectors = MSP(nn.Linear(4, 3).eval()).calibrate(torch.rand(50, 4), 0.1)
    with pytest.raises(InputError, match="not fitted on images"):
        make_app(vectors)


@pytest.mark.parametrize("name", ["batch_size", "waiting", "patience", "megabytes", "megapixels"])
@pytest.mark.parametrize("value", [-1, float("nan")])
def test_limits_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{name} is {value}; give"):
        Limits(**{name: value})


def test_a_port_that_is_taken_is_named() -> None:
    with service.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen at 127.0.0.1, port {port}: .*choose another"):
            service.listen("127.0.0.1", port)
    with pytest.raises(InputError, match=r"cannot listen at nowhere\.invalid"):
        service.listen("nowhere.invalid", 0)


def test_work_is_given_up_when_its_request_is_called_off() -> None:
    class There:
        async def is_disconnected(self) -> bool:
            return False

    async def ask() -> bool:
        given_up = asyncio.Event()

        async def work() -> list[object]:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                given_up.set()
                raise
            return []

        asked = asyncio.create_task(application._while_there(There(), work()))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        asked.cancel()  # as the server does with requests that last longer than it waits when it stops
        with pytest.raises(asyncio.CancelledError):
            await asked
        await asyncio.wait_for(given_up.wait(), 5)
        return given_up.is_set()

    assert asyncio.run(ask())
