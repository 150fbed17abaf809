"""Saved detectors: the same bits in a fresh process, and an error before any score for every unusable file."""

from __future__ import annotations

import copy
import json
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from torch import nn

import gradiometer
from gradiometer import gradients
from gradiometer.detectors import (
    KNN,
    MSP,
    ODIN,
    Control,
    Energy,
    Guard,
    NormalizedMahalanobis,
    Purview,
    ReAct,
    ViM,
    load,
    storage,
)
from gradiometer.errors import ArtefactError, InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def detectors(model, digits):
    images, _ = digits.fit
    shifted = 1 - images
    kinds = (MSP, Energy, NormalizedMahalanobis, Control, Purview, Guard)
    made = {kind.__name__: kind(model).fit(digits.fit) for kind in kinds}
    made["with gradients"] = Guard(model, gradients=True).fit(digits.fit)
    made["matched"] = Purview(model, gradients.UniformTarget(), seed=3, layers=["3", "8"]).fit(
        digits.fit, challenges=shifted
    )
    for detector in made.values():
        detector.calibrate(digits.held_out)
    return made


@pytest.fixture
def saved(detectors, tmp_path):
    path = tmp_path / "guard.safetensors"
    detectors["Purview"].save(path)
    return path


def test_a_fresh_process_gives_the_same_bits(detectors, model, digits, tmp_path):
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    np.save(tmp_path / "images.npy", digits.test[0].numpy())
    for name, detector in detectors.items():
        detector.save(tmp_path / f"{name}.safetensors")
    program = """
import sys, numpy, torch
from gradiometer import detectors
from tests.detectors.networks import digits_network
torch.set_num_threads(int(sys.argv[2]))
folder = sys.argv[1]
model = digits_network().eval()
model.load_state_dict(torch.load(f"{folder}/weights.pt", weights_only=True))
images = torch.from_numpy(numpy.load(f"{folder}/images.npy"))
for name in sys.argv[3:]:
    detector = detectors.load(f"{folder}/{name}.safetensors", model)
    verdict = detector.judge(images)
    assert numpy.array_equal(detector.predict(images).numpy(), verdict.scores)
    numpy.savez(f"{folder}/{name}.npz", threshold=detector.calibration.threshold, **{
        key: getattr(verdict, key) for key in ("scores", "p_values", "trustworthy", "profile", "confidences")})
"""
    # One thread of BLAS, as in this process (see conftest.py): with another number products differ in their last bits.
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
    arguments = [str(tmp_path), str(torch.get_num_threads()), *detectors]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, env=environment, cwd=tmp_path)
    for name, detector in detectors.items():
        found, verdict = np.load(tmp_path / f"{name}.npz"), detector.judge(digits.test[0])
        assert found["threshold"] == detector.calibration.threshold
        for key in ("scores", "p_values", "trustworthy", "profile", "confidences"):
            assert np.array_equal(found[key], getattr(verdict, key)), (name, key)


def test_everything_comes_back(detectors, model, digits, tmp_path):
    for name, detector in detectors.items():
        path = tmp_path / name
        detector.save(path)
        again = load(path, model)
        assert type(again) is type(detector)
        assert again._parameters() == detector._parameters()
        assert str(again.calibration.false_alarms()) == str(detector.calibration.false_alarms())
        again.save(tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert load(tmp_path / "matched", model).objective == gradients.UniformTarget()
    again = load(tmp_path / "Purview", model)
    with pytest.raises(InputError, match="were also fitted on"):
        again.calibrate(digits.fit)


def test_an_uncalibrated_detector_can_be_saved_and_calibrated_later(model, digits, tmp_path):
    Purview(model).fit(digits.fit).save(tmp_path / "detector")
    again = load(tmp_path / "detector", model)
    assert again.calibration is None
    assert again.calibrate(digits.held_out).judge(digits.test[0][:3]).scores.shape == (3,)


def test_the_header_tells_what_the_file_holds(saved, model):
    artefact = storage.read(saved)
    assert artefact.header["class"] == "Purview"
    assert artefact.header["schema"] == storage.SCHEMA
    assert artefact.header["inputs"] == {"input": [1, 8, 8]}
    assert artefact.header["images"] == 900
    assert artefact.header["versions"]["gradiometer"] == gradiometer.__version__
    assert torch.__version__.startswith(artefact.header["versions"]["torch"])
    assert artefact.header["parameters"]["objective"] == {
        "objective": "ConfoundingLabel",
        "with": {"label": "ones", "reading": "softmax"},
    }
    assert "gradient of 0.weight" in artefact.header["names"]


def test_another_model_is_refused(saved, model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[8].bias[0] += 1e-6
    for loader in (load, Purview.load):
        with pytest.raises(ArtefactError, match="fitted on a model with other weights"):
            loader(saved, other)


def test_another_class_is_refused(saved, model):
    with pytest.raises(ArtefactError, match=r"holds a Purview, not a MSP; gradiometer.detectors.load takes any"):
        MSP.load(saved, model)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.9999])
def test_truncated_files_are_refused(saved, model, share):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ArtefactError, match="truncated or no safetensors file"):
        load(saved, model)


def rewrite(path: Path, change) -> None:
    """Change the header of a file and leave the rest."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    outer = json.loads(data[8 : 8 + length])
    header = json.loads(outer["__metadata__"]["gradiometer"])
    change(header)
    outer["__metadata__"]["gradiometer"] = json.dumps(header)
    text = json.dumps(outer).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def test_a_newer_schema_is_refused(saved, model):
    rewrite(saved, lambda header: header.update(schema=storage.SCHEMA + 1))
    with pytest.raises(
        ArtefactError, match=rf"schema {storage.SCHEMA + 1} and this version reads up to {storage.SCHEMA}"
    ):
        load(saved, model)


@pytest.mark.parametrize("key", ["class", "digest", "tensors"])
def test_a_header_without_its_keys_is_refused(saved, model, key):
    rewrite(saved, lambda header: header.pop(key))
    with pytest.raises(ArtefactError, match=f"lacks '{key}'"):
        load(saved, model)


@pytest.mark.parametrize("key", ["weights", "parameters", "inputs", "names", "columns", "images", "false_alarm_rate"])
def test_a_detector_without_its_entries_is_refused(saved, model, key):
    artefact = storage.read(saved)
    header = {name: value for name, value in artefact.header.items() if name not in (key, "schema", "tensors")}
    storage.write(saved, header, artefact.tensors)
    with pytest.raises(ArtefactError, match=f"lacks '{key}'"):
        load(saved, model)


@pytest.mark.parametrize(
    "name",
    ["state.reference", "state.neighbours", "state.scale.mean", "fingerprints", "median", "scores", "predictions"],
)
def test_a_detector_without_its_arrays_is_refused(saved, model, name):
    artefact = storage.read(saved)
    header = {key: value for key, value in artefact.header.items() if key not in ("schema", "tensors")}
    storage.write(saved, header, {key: value for key, value in artefact.tensors.items() if key != name})
    with pytest.raises(ArtefactError, match="lacks the array"):
        load(saved, model)


def test_a_changed_value_is_noticed(saved, model):
    data = bytearray(saved.read_bytes())
    data[-5] ^= 1
    saved.write_bytes(data)
    with pytest.raises(ArtefactError, match="was altered"):
        load(saved, model)
    data[-5] ^= 1
    saved.write_bytes(data)
    rewrite(saved, lambda header: header.update(false_alarm_rate=0.5))
    with pytest.raises(ArtefactError, match="was altered"):
        load(saved, model)


def test_files_of_others_are_refused(tmp_path, model):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(ArtefactError, match="there is no file"):
        load(path, model)
    with pytest.raises(ArtefactError, match="there is no file"):
        load(tmp_path, model)
    for metadata in (None, {"format": "pt"}, {"gradiometer": "{"}, {"gradiometer": "[1]"}, {"gradiometer": "{}"}):
        safetensors.numpy.save_file({"weight": np.zeros(3)}, path, metadata)
        with pytest.raises(ArtefactError, match="is not a saved detector"):
            load(path, model)
    path.write_bytes(b"PK\x03\x04 a pickle in a zip archive, perhaps")
    with pytest.raises(ArtefactError, match="no safetensors file"):
        load(path, model)


def test_an_unknown_class_names_those_that_are_known(saved, model):
    artefact = storage.read(saved)
    storage.write(saved, artefact.header | {"class": "Oracle"}, artefact.tensors)
    with pytest.raises(ArtefactError, match=r"class 'Oracle', known are .*MSP.*Purview"):
        load(saved, model)


def test_a_full_disk_leaves_the_old_file(detectors, saved, model):
    before = saved.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(
            ArtefactError, match=r"could not write [\d,]+ bytes to .*the file that was there is untouched"
        ):
            detectors["matched"].save(saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_an_interruption_leaves_the_old_file(detectors, saved, monkeypatch):
    before = saved.read_bytes()

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        detectors["MSP"].save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_folder_that_is_not_there_is_named(detectors, tmp_path):
    with pytest.raises(ArtefactError, match="nothing was written"):
        detectors["MSP"].save(tmp_path / "missing" / "detector.safetensors")
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtefactError, match="nothing was written"):
        detectors["MSP"].save(tmp_path / "file" / "detector.safetensors")


def margin(outputs, inputs):
    top = outputs.topk(2, dim=1).values
    return top[:, 0] - top[:, 1]


def test_functions_are_given_again_at_load(model, digits, tmp_path):
    path = tmp_path / "detector"
    detector = Purview(model, margin, parameters=["8.*"], memory="1GiB").fit(digits.fit)
    detector.save(path)
    with pytest.raises(ArtefactError, match=r"saved with objective=.*margin; give it to load"):
        load(path, model)
    with pytest.raises(ArtefactError, match="give that one"):
        load(path, model, objective=len)
    with pytest.raises(ArtefactError, match="'neighbours' is in the file; leave it out"):
        load(path, model, objective=margin, neighbours=3)
    again = load(path, model, objective=margin)
    assert torch.equal(again.predict(digits.test[0]), detector.predict(digits.test[0]))


@pytest.mark.parametrize(
    "objective",
    [
        gradients.ConfoundingLabel("zeros"),
        gradients.ConfoundingLabel((1, 1, 0, 0, 0, 0, 0, 0, 0, 1), reading="softmax"),
        gradients.ContrastClasses(range(3)),
        gradients.ContrastClasses(),
        gradients.PseudoLabel(),
    ],
)
def test_every_objective_of_ours_is_stored(objective, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 10)).eval()
    detector = Purview(model, objective, neighbours=2).fit(torch.randn(50, 4))
    detector.save(tmp_path / "detector")
    again = load(tmp_path / "detector", model)
    assert type(again.objective) is type(objective)
    x = torch.randn(9, 4)
    assert torch.equal(again.predict(x), detector.predict(x))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (KNN, {"neighbours": np.int64(5)}),
        (ODIN, {"temperature": np.float32(2), "deviations": np.ones(1, np.float32)}),
        (ReAct, {"percentile": np.float32(0.75)}),
        (ViM, {"dimensions": np.int64(4)}),
    ],
)
def test_numbers_of_numpy_are_stored_as_numbers(kind, arguments, model, digits, tmp_path):
    detector = kind(model, **arguments, batch_size=np.int64(64)).fit(digits.fit)
    detector.save(tmp_path / "detector")
    header = storage.read(tmp_path / "detector").header["parameters"]
    assert header["batch_size"] == 64
    assert {name: header[name] for name in arguments} == {name: value.tolist() for name, value in arguments.items()}
    again = load(tmp_path / "detector", model)
    assert torch.equal(again.predict(digits.test[0]), detector.predict(digits.test[0]))


def test_classes_that_are_given_as_an_array_come_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    known = torch.randn(80, 4)
    detector = Purview(model, gradients.ContrastClasses(np.array([1, 2]))).fit(known)
    detector.save(tmp_path / "a.safetensors")
    loaded = Purview.load(tmp_path / "a.safetensors", model)
    torch.testing.assert_close(loaded.predict(known[:3]), detector.predict(known[:3]), rtol=0, atol=0)


def test_the_weights_of_a_network_are_no_detector(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(3, dtype=torch.bfloat16)}, path)  # NumPy does not know the type
    with pytest.raises(ArtefactError, match="is not a saved detector"):
        storage.read(path)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"schema": 1, "tensors": 5, "class": "MSP", "weights": "", "digest": ""}']
)
def test_headers_that_are_no_headers(tmp_path, text):
    path = tmp_path / "detector.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, metadata={storage._KEY: text})
    with pytest.raises(ArtefactError, match=r"not a saved detector|lacks"):
        storage.read(path)
