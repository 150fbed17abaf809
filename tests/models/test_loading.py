"""`load`: files of the user, our own runs, and every way in which they can be wrong."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from gradiometer import models
from gradiometer.errors import ArtefactError, InputError, ModelError
from gradiometer.models.stored import Header, write

FACTORY = """
from dataclasses import dataclass

import torch
from torch import nn

from neighbour_of_{tag} import WIDTH


@dataclass
class Settings:
    width: int = WIDTH


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x.flatten(1)))


def factory(width=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(Settings().width, width), nn.Dropout(0.5))

def tied():
    return Tied()

def lazy():
    return nn.LazyLinear(3)

def number():
    return 42

def broken():
    raise RuntimeError("no such luck")

def masked():
    model = nn.Linear(2, 2)
    model.register_buffer("mask", torch.full((2,), -torch.inf))
    return model

constant = 1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A Python file with factories, which imports a file beside it."""
    tag = f"t{abs(hash(tmp_path)) % 10**9}"
    (tmp_path / f"neighbour_of_{tag}.py").write_text("WIDTH = 12\n", encoding="utf-8")
    path = tmp_path / "model.py"
    path.write_text(FACTORY.format(tag=tag), encoding="utf-8")
    return path


def weights_of(file: Path, seed: int = 1) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {"1.weight": torch.randn(3, 12), "1.bias": torch.randn(3)}


def logits(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1) @ weights["1.weight"].T + weights["1.bias"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_factory_and_weights(file: Path, suffix: str, dtype: torch.dtype) -> None:
    weights = {name: value.to(dtype) for name, value in weights_of(file).items()}
    target = file.with_name(f"weights{suffix}")
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(weights, target)
    path = list(sys.path)
    model = models.load(f"{file}:factory@{target}")
    assert sys.path == path
    assert not model.training
    assert model[1].weight.dtype == torch.float32
    x = torch.rand(5, 3, 2, 2)
    expected = logits({name: value.float() for name, value in weights.items()}, x)
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_checkpoints_of_the_usual_scripts(file: Path, key: str, prefix: str) -> None:
    weights = weights_of(file)
    target = file.with_name("weights.pt")
    torch.save({key: {prefix + name: value for name, value in weights.items()}, "epoch": 3}, target)
    x = torch.rand(2, 3, 2, 2)
    torch.testing.assert_close(models.load(f"{file}:factory@{target}")(x), logits(weights, x))


def test_factory_alone_with_options_and_normalisation(file: Path) -> None:
    model = models.load(f"{file}:factory", width=5)
    assert model[1].out_features == 5
    normalised = models.load(f"{file}:factory", mean=[0.5, 0.4, 0.3], std=[0.1, 0.2, 0.3])
    x = torch.rand(2, 3, 2, 2)
    shifted = (x - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    torch.testing.assert_close(normalised(x), normalised.network(shifted))
    with pytest.raises(InputError, match="mean and std together"):
        models.load(f"{file}:factory", mean=[0.5, 0.4, 0.3])


def test_tied_weights_are_stored_once(file: Path) -> None:
    model = models.load(f"{file}:tied")
    safetensors.torch.save_model(model, str(file.with_name("tied.safetensors")))
    assert len(safetensors.torch.load_file(file.with_name("tied.safetensors"))) == 3
    again = models.load(f"{file}:tied@{file.with_name('tied.safetensors')}")
    x = torch.rand(2, 4)
    assert torch.equal(again(x), model(x))


def test_two_files_of_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "model.py").write_text(
            f"from torch import nn\ndef factory(): return nn.Linear({number}, 2)\n", encoding="utf-8"
        )
    widths = [models.load(f"{tmp_path / number / 'model.py'}:factory").in_features for number in ("1", "2")]
    assert widths == [1, 2]


def test_infinite_masks_are_not_broken_weights(file: Path) -> None:
    assert torch.isinf(models.load(f"{file}:masked").mask).all()


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("model.py", ModelError, "names no factory"),
        ("model.py:", ModelError, "names no factory"),
        ("model.py:factry", ModelError, r"no function 'factry'; did you mean factory\?"),
        ("model.py:constant", ModelError, "no function 'constant'"),
        ("modle.py:factory", ArtefactError, r"no file .*modle\.py; did you mean model\.py\?"),
        ("nowhere/model.py:factory", ArtefactError, r"no file .*nowhere/model\.py"),
        ("model.py:number", ModelError, r"must return a torch\.nn\.Module, it returned int"),
        ("model.py:broken", ModelError, r"broken in .* failed \(RuntimeError: no such luck\)"),
        ("model.py:lazy", ModelError, "parameter weight .* has no shape yet"),
        ("model.py:factory@weight.pt", ArtefactError, r"no weights file .*; did you mean weights\.pt"),
        ("model.py:factory@model.py", ArtefactError, r"must be in a \.safetensors, \.pt or \.pth file"),
        ("model.py:factory@empty.pt", ArtefactError, "cannot be read as a state dict of tensors"),
        ("model.py:factory@whole.pt", ArtefactError, r"save model\.state_dict\(\), not the model"),
        ("model.py:factory@list.pt", ArtefactError, "holds no state dict"),
        ("model.py:factory@cut.safetensors", ArtefactError, "is it complete"),
        ("model.py:factory@nan.pt", ModelError, r"parameter 1\.bias of .* has NaN or infinite values"),
        ("model.py:tied@weights.pt", ArtefactError, r"of another network than Tied \(4 missing: first\.weight, "),
        (
            "model.py:factory@renamed.pt",
            ArtefactError,
            r"1 missing: 1\.weight; 1 unexpected: 1\.weigth\); for 1\.weight, did you mean 1\.weigth\?",
        ),
        (
            "model.py:factory@wide.pt",
            ArtefactError,
            r"1 of another shape: 1\.weight \(3, 13\) instead of \(3, 12\)",
        ),
    ],
)
def test_what_can_be_wrong_with_a_file(file: Path, spec: str, error: type[Exception], message: str) -> None:
    folder, weights = file.parent, weights_of(file)
    torch.save(weights, folder / "weights.pt")
    (folder / "empty.pt").write_bytes(b"")
    torch.save(nn.Linear(2, 2), folder / "whole.pt")
    torch.save([torch.zeros(1)], folder / "list.pt")
    safetensors.torch.save_file(weights, folder / "cut.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "cut.safetensors").read_bytes()[:-8])
    torch.save(weights | {"1.bias": torch.tensor([0.0, torch.nan, 1.0])}, folder / "nan.pt")
    torch.save({"1.weigth": weights["1.weight"], "1.bias": weights["1.bias"]}, folder / "renamed.pt")
    torch.save(weights | {"1.weight": torch.zeros(3, 13)}, folder / "wide.pt")
    name, _, rest = spec.partition("@")
    with pytest.raises(error, match=message):
        models.load(f"{folder / name}@{folder / rest}" if rest else str(folder / name))


def test_a_file_that_does_not_import(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("import a_module_that_is_not_there\n", encoding="utf-8")
    before = set(sys.modules)
    with pytest.raises(ModelError, match=r"cannot be imported \(ModuleNotFoundError: .*a_module_that_is_not_there"):
        models.load(f"{tmp_path / 'model.py'}:factory")
    assert not {name for name in set(sys.modules) - before if name.startswith("gradiometer_user")}
    (tmp_path / "model.py").write_text("def factory(:\n", encoding="utf-8")
    with pytest.raises(ModelError, match=r"cannot be imported \(SyntaxError"):
        models.load(f"{tmp_path / 'model.py'}:factory")


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_code_in_a_weights_file_is_never_run(file: Path) -> None:
    trace = file.with_name("exploded")
    torch.save({"1.weight": Bomb(trace)}, file.with_name("bomb.pt"))
    file.with_name("bomb.pth").write_bytes(pickle.dumps(Bomb(trace)))
    for name in ("bomb.pt", "bomb.pth"):
        with pytest.raises(ArtefactError, match="cannot be read as a state dict"):
            models.load(f"{file}:factory@{file.with_name(name)}")
    assert not trace.exists()


def stored(folder: Path, **changes: object) -> Path:
    """A model as our training writes it, with entries of its header changed; the value `-` removes one."""
    path = folder / "model.safetensors"
    write(path, models.build("digits-cnn", 10, 1, 8), Header("digits-cnn", 10, 1, 8, tuple("0123456789")))
    if changes:
        with safetensors.safe_open(path, "pt") as file:
            entries = {**json.loads(file.metadata()["gradiometer"]), **changes}
        entries = {key: value for key, value in entries.items() if value != "-"}
        metadata = {"gradiometer": json.dumps(entries)} if "architecture" in entries else None
        safetensors.torch.save_file(safetensors.torch.load_file(path), path, metadata=metadata)
    return path


def test_a_run_is_loaded_by_folder_or_file(tmp_path: Path) -> None:
    path = stored(tmp_path)
    x = torch.rand(2, 1, 8, 8)
    expected = models.load(path)(x)
    assert torch.equal(models.load(str(tmp_path))(x), expected)
    assert torch.equal(models.load(tmp_path)(x), expected)
    assert models.header(tmp_path).architecture == "digits-cnn"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"architecture": "-"}, ArtefactError, r"does not say which network [^@]* path/to/file\.py:factory@"),
        ({"architecture": "digits-ccn"}, ModelError, "did you mean digits-cnn"),
        ({"schema": 2}, ArtefactError, "schema 2, this version reads up to 1; update"),
        ({"schema": "-"}, ArtefactError, "header of .* is broken"),
        ({"classes": "ten"}, ArtefactError, "header of .* is broken"),
        ({"class_names": 7}, ArtefactError, "header of .* is broken"),
        ({"classes": 9}, ArtefactError, r"2 of another shape: fc2\.weight \(10, 64\) instead of \(9, 64\)"),
    ],
)
def test_what_can_be_wrong_with_a_header(
    tmp_path: Path, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    path = stored(tmp_path, **changes)
    with pytest.raises(error, match=message):
        models.load(path)


def test_broken_runs(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"holds no model\.safetensors; train a model there"):
        models.load(tmp_path)
    path = stored(tmp_path)
    with pytest.raises(ArtefactError, match=r"no file .*modle\.safetensors; did you mean model\.safetensors"):
        models.load(tmp_path / "modle.safetensors")
    tensors = safetensors.torch.load_file(path)
    tensors["conv1.weight"][0] = torch.inf
    with safetensors.safe_open(path, "pt") as file:
        safetensors.torch.save_file(tensors, tmp_path / "infinite.safetensors", metadata=file.metadata())
    with pytest.raises(ModelError, match=r"parameter conv1\.weight of .* NaN or infinite"):
        models.load(tmp_path / "infinite.safetensors")
    tensors["conv1.weight"][0] = 0
    tensors["normalize.mean"][0] = torch.nan
    with safetensors.safe_open(path, "pt") as file:
        safetensors.torch.save_file(tensors, tmp_path / "nan.safetensors", metadata=file.metadata())
    with pytest.raises(ModelError, match=r"buffer normalize\.mean of .* NaN"):
        models.load(tmp_path / "nan.safetensors")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ArtefactError, match="cannot be read as safetensors"):
        models.load(path)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchvison:resnet18", "did you mean torchvision:"),
        ("", "unknown model ''"),
        ("weights.pt", r"file\.py:factory@weights\.pt"),
    ],
)
def test_unknown_specs(spec: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        models.load(spec)


def test_arguments_that_would_be_ignored_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="takes no weights"):
        models.load(f"{file}:factory", weights="DEFAULT")
    with pytest.raises(InputError, match="takes no classes"):
        models.load(stored(tmp_path), classes=10)


@pytest.mark.parametrize("spec", ["net.py:make@weights.safetensors", "net.py:make", "torchvision:resnet18"])
def test_models_of_others_have_no_header(spec: str) -> None:
    with pytest.raises(ModelError, match="does not say what images it takes"):
        models.header(spec)
