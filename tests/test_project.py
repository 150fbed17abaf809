"""The project as a whole: the README runs, start-up is light, the description of the package is consistent."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gradiometer
from gradiometer.anomaly import make_network, mean_gradient

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "torchvision", "sklearn", "scipy", "pytorch_ood", "matplotlib", "numpy")


def python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a fresh interpreter that finds the package under test and keep what it says."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "MPLBACKEND": "Agg"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd, env=environment
    )


def python_blocks(page: str) -> list[str]:
    """The Python of a page, block by block."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", [0, 1])
def test_the_python_of_the_readme_runs(number: int, tmp_path: Path) -> None:
    run = python("-W", "error", "-c", python_blocks("README.md")[number], cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


def test_the_tutorial_runs_from_start_to_end(tmp_path: Path) -> None:
    run = python("-W", "error", "-c", "\n".join(python_blocks("docs/tutorial.md")), cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    shares = {name: float(share) for name, share in re.findall(r"^(.*?) +flagged +([\d.]+)%", run.stdout, re.MULTILINE)}
    # What the text says: the digits at about the rate that was chosen (5 %, 360 images), the others far more often.
    assert shares["digits"] < 10, run.stdout
    assert shares["in noise"] > 15, run.stdout
    assert shares["negatives"] > 80, run.stdout


def test_the_how_to_on_rows_of_numbers_tells_the_third_cultivar_from_the_others(tmp_path):
    (block,) = [block for block in python_blocks("docs/howto/own-model.md") if "load_wine" in block]
    run = python("-W", "error", "-c", block, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    known, third = (float(line.split(": ")[1].split("%")[0]) for line in run.stdout.splitlines())
    assert third > known + 20


def test_importing_the_package_loads_no_heavy_library() -> None:
    run = python("-c", f"import gradiometer, sys; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert run.stdout.strip() == "[]", run.stderr


def test_help_of_the_command_line_loads_no_torch() -> None:
    run = python(
        "-c",
        "import sys\n"
        "from gradiometer.cli import main\n"
        "sys.argv = ['gradiometer', '--help']\n"
        "try:\n"
        "    code = main()\n"
        "except SystemExit as end:\n"
        "    code = end.code\n"
        "assert not code, code\n"
        "print('torch is loaded:', 'torch' in sys.modules)\n",
    )
    assert "torch is loaded: False" in run.stdout, run.stderr
    assert "usage" in run.stdout.lower()


@pytest.mark.parametrize("name", gradiometer.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(gradiometer, name) is getattr(gradiometer, name)
    assert name in dir(gradiometer)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'gradiometer' has no attribute 'Seismometer'"):
        _ = gradiometer.Seismometer


@pytest.mark.parametrize(
    ("name", "room"), [("KNN", "detectors"), ("RandomContrasts", "gradients"), ("fgsm", "challenges")]
)
def test_a_name_of_one_of_the_rooms_is_told_where_it_is(name: str, room: str) -> None:
    with pytest.raises(AttributeError, match=f"write: from gradiometer.{room} import {name}"):
        getattr(gradiometer, name)


def test_a_detector_of_any_class_is_loaded_in_a_fresh_process(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images = torch.rand(30, 1, 16, 16)
    network = make_network("cae", 1, (16, 16), seed=0).eval()
    reference = mean_gradient(network, images, "decoder.*.weight")
    detector = gradiometer.GradCon(network, reference, layers="decoder.*.weight").fit(images)
    detector.save(tmp_path / "a.safetensors")
    run = python("-c", "import gradiometer; print(gradiometer.load('a.safetensors'))", cwd=tmp_path)
    assert run.stdout.startswith("<GradCon(AutoEncoder"), run.stderr


def test_errors_are_caught_by_the_family_and_by_the_builtin_they_refine() -> None:
    for error, builtin in [
        (gradiometer.InputError, ValueError),
        (gradiometer.ModelError, ValueError),
        (gradiometer.ArtefactError, ValueError),
        (gradiometer.NotFittedError, RuntimeError),
        (gradiometer.DependencyError, ImportError),
    ]:
        assert issubclass(error, gradiometer.GradiometerError)
        assert issubclass(error, builtin)


def test_the_installed_version_is_the_one_the_package_states() -> None:
    assert importlib.metadata.version("gradiometer") == gradiometer.__version__


def test_the_citation_is_of_this_version() -> None:
    assert f"version: {gradiometer.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_changelog_has_a_heading_for_this_version() -> None:
    assert f"## [{gradiometer.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", ["lock.txt", "peers.txt"])
def test_the_lock_names_versions_and_no_places(file: str) -> None:
    lines = (ROOT / "requirements" / file).read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    marker = r"sys_platform == \"\w+\"( or sys_platform == \"\w+\")*|python_version (<|>=) \"3\.\d+\""
    for line in pins:
        assert re.fullmatch(rf"[a-z0-9-]+==[0-9][\w.]*( ; ({marker}))?", line)
