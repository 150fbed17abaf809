"""A detector that was sent by somebody else: nothing of it is run or fetched that the user did not name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gradiometer import MSP
from gradiometer.cli import artefacts
from gradiometer.detectors import storage
from gradiometer.errors import InputError

EVIL = """
from pathlib import Path
from torch import nn
Path(__file__).with_suffix(".ran").touch()
def make(**options):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
"""


def sent(folder: Path, model: str, **options: object) -> str:
    """A detector whose file notes a model."""
    torch.manual_seed(0)
    detector = MSP(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()).calibrate(torch.rand(40, 1, 4, 4), 0.1)
    header, arrays = detector.contents()
    path = folder / "sent.safetensors"
    storage.write(path, header | {"origin": {"model": model, "model_options": options}}, arrays)
    return str(path)


def test_code_that_a_file_notes_is_run_only_when_it_is_named(tmp_path, run):
    (tmp_path / "evil.py").write_text(EVIL)
    spec = f"{tmp_path / 'evil.py'}:make"
    path = sent(tmp_path, spec, anything=1)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "image.png")
    for command in ("score", "explain"):
        out = ("--out", tmp_path / "scores.csv") if command == "score" else ()
        said = run(command, "--detector", path, "--images", tmp_path / "image.png", *out)
        assert said.code == 1
        assert f"--model {spec}" in said.err
        assert not (tmp_path / "evil.ran").exists()
    with pytest.raises(Exception, match=r"."):  # the weights are others; what counts is that it was run now
        artefacts.load(path, spec, "cpu")
    assert (tmp_path / "evil.ran").exists()


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("model", ["hf:somebody/network", "timm:resnet10t", "torchvision:resnet18"])
def test_options_with_which_a_library_runs_code_are_not_taken_from_a_file(model, named, tmp_path):
    path = sent(tmp_path, model, trust_remote_code=True, classes=3)
    with pytest.raises(InputError, match="trust_remote_code"):
        artefacts.load(path, model if named else None, "cpu")


def test_nothing_is_fetched_from_the_hub_because_a_file_says_so(tmp_path, monkeypatch):
    path = sent(tmp_path, "hf:somebody/network", weights="DEFAULT")
    with pytest.raises(InputError, match="fetched from the hub"):
        artefacts.load(path, None, "cpu")
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(artefacts, "load_model", lambda spec, options, device: asked.append(dict(options)))
    with pytest.raises(Exception, match=r"."):
        artefacts.load(path, "hf:somebody/network", "cpu")
    assert asked == [{"weights": "DEFAULT"}]


def test_options_of_another_model_are_not_taken(tmp_path):
    origin = artefacts.Origin(model="timm:a", model_options=json.loads('{"classes": 3}'))
    assert artefacts._noted_options("p", origin, "timm:b", named=True) == {}
    assert artefacts._noted_options("p", origin, "timm:a", named=False) == {"classes": 3}
