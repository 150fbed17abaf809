"""A detector that the commands made, served in a process of its own until it is asked to end."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gradiometer import data, detectors, models
from tests.cli.conftest import Run, Workshop
from tests.service.conftest import Client


def test_it_answers_until_it_is_interrupted(workshop: Workshop) -> None:
    words = [sys.executable, "-m", "gradiometer", "serve", "--detector", str(workshop.detector), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            client = Client(re.search(r"http://[^:]+:[0-9]+", said)[0])
            names = [f"{number:02}.png" for number in range(3)]
            answer = client.judge([(name, (workshop.photos / name).read_bytes()) for name in names])
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert said.startswith("Guard at http://127.0.0.1:")
    detector = detectors.load(workshop.detector, models.load(str(workshop.model)))
    with pytest.warns(UserWarning, match="1 of 40"):
        photos = data.load(workshop.photos)
    assert [Path(name).name for name in photos.names[:3]] == [row["name"] for row in answer.json["rows"]] == names
    scores = detector.judge(photos.images[:3]).scores  # as one batch, as they came
    assert [row["score"] for row in answer.json["rows"]] == pytest.approx(scores.tolist(), rel=1e-6)


def test_what_cannot_be_served_is_one_line(workshop: Workshop, run: Run) -> None:
    for words, said in (
        (("--detector", workshop.fitted), f"{workshop.fitted} has no false-alarm rate yet; run: gradiometer calibrate"),
        (("--detector", workshop.detector, "--port", 70000), "port is 70000; give 0 to 65535"),
        (("--detector", workshop.detector, "--waiting", 0), "waiting is 0; give a whole number of 1 or more"),
        (("--detector", workshop.detector, "--host", "nowhere.invalid"), "cannot listen at nowhere.invalid"),
    ):
        ended = run("serve", *words)
        assert ended.code == 1
        assert ended.err.startswith(f"gradiometer: error: {said}")
        assert ended.err.count("\n") == 1
