"""The working memory that was asked for is kept: measured in a process of its own, and counted tensor by tensor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from gradiometer.gradients import Gradiometer
from gradiometer.gradients.peak import Peak, peak_of
from tests.zoo import specimen

ROOT = Path(__file__).parents[2]
MIB = 2**20

CHILD = """
import json, torch
from measuring import memory
from torch import nn
from gradiometer import Gradiometer
from gradiometer.models.densenet import densenet
from gradiometer.models.resnet import resnet20

torch.set_num_threads(1)
torch.manual_seed(0)


def attention():
    layer = nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True)
    return nn.Sequential(nn.Linear(16, 64), nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(64 * 64, 10))


def wide(width):
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def rise(model, inputs, limit):
    meter = Gradiometer(model, memory=limit)
    meter.squared_norms(inputs[:4])
    part = meter.needs(inputs).batch(meter.memory) if limit else len(inputs)
    return {"rise": memory.measure(lambda: meter.squared_norms(inputs), 1).rise, "part": part, "size": len(inputs)}


def grams(model, inputs, limit):
    meter = Gradiometer(model, memory=limit)
    meter.class_grams(inputs[:2])
    part, block = meter.needs(inputs).parts(limit, 10, meter.plan().direction_bytes, 24 * 100 * len(meter.parameters))
    found = memory.measure(lambda: meter.class_grams(inputs), 1)
    return {"rise": found.rise, "part": part, "size": len(inputs), "block": block}


def step(model, inputs):
    def call():
        outputs = model(inputs)
        nn.functional.binary_cross_entropy_with_logits(outputs, torch.ones_like(outputs)).backward()
        model.zero_grad(set_to_none=True)

    model(inputs[:4]).sum().backward()
    model.zero_grad(set_to_none=True)
    return memory.measure(call, 1).rise


images, sequences, rows = torch.rand(96, 3, 32, 32), torch.rand(256, 64, 16), torch.rand(64, 64)
found = {
    "exact": memory.measure(lambda: None, 0).method.startswith("VmHWM, set back"),
    "limits": {
        "resnet": rise(resnet20().eval(), images, 120 * 2**20),
        "densenet": rise(densenet(22, 12).eval(), images, 150 * 2**20),
        "attention": rise(attention().eval(), sequences, 120 * 2**20),
    },
    "grams": {
        "all": grams(resnet20().eval(), images[:48], 200 * 2**20),
        "blocks": grams(resnet20().eval(), images[:2], 72 * 2**20),
    },
    "steps": {"resnet": [rise(resnet20().eval(), images, None)["rise"], step(resnet20().eval(), images)]},
    "widths": {str(width): rise(wide(width).eval(), rows, None)["rise"] for width in (512, 4096)},
}
print(json.dumps(found))
"""

LIMITS = {"resnet": 120, "densenet": 150, "attention": 120}


@cache
def measured() -> dict:
    """What a process of its own measures, all of it once."""
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("src", "benchmarks"))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    if not found["exact"]:
        pytest.skip("this system does not let a process set its peak memory back")
    return found


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_kept(name: str) -> None:
    """The process grows by no more than was allowed, and a good part of that is used."""
    found = measured()["limits"][name]
    assert 1 < found["part"] < found["size"]
    assert found["rise"] <= LIMITS[name] * MIB
    assert found["rise"] >= LIMITS[name] * MIB / 4


def test_a_limit_is_kept_by_gram_matrices() -> None:
    found = measured()["grams"]["all"]
    assert found["block"] == 10
    assert 1 < found["part"] < found["size"]
    assert found["rise"] <= 200 * MIB
    few = measured()["grams"]["blocks"]
    assert (few["part"], few["block"] < 10) == (1, True)
    assert few["rise"] <= 72 * MIB


def test_no_more_than_a_training_step_and_a_third() -> None:
    ours, step = measured()["steps"]["resnet"]
    assert ours <= 1.3 * step


def test_the_number_of_parameters_does_not_matter() -> None:
    """Sixty times the parameters, whose gradients of a whole batch would take 4 GiB."""
    widths = measured()["widths"]
    assert widths["4096"] <= widths["512"] + 32 * MIB


def test_the_peak_is_what_is_alive_at_a_time() -> None:
    def work() -> torch.Tensor:
        first = torch.ones(1000, dtype=torch.float64)
        second = first * 2
        view = second[:10]
        del first
        third = torch.zeros(500, dtype=torch.float64)
        return view.sum() + third.sum()

    work()
    found = peak_of(work, torch.device("cpu"))
    assert 16000 <= found <= 16100


def test_views_and_changes_in_place_take_nothing() -> None:
    values = torch.ones(1000)
    with Peak() as peak:
        values.view(10, 100).add_(1)
    assert peak.bytes == 0


def test_needs_grow_with_the_sample_and_not_with_the_weights() -> None:
    torch.manual_seed(0)
    narrow = Gradiometer(nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4)).eval()).needs(torch.rand(2, 8))
    wide = Gradiometer(nn.Sequential(nn.Linear(8, 640), nn.ReLU(), nn.Linear(640, 4)).eval()).needs(torch.rand(2, 8))
    assert 4 * narrow.sample < wide.sample < 20 * narrow.sample
    assert wide.fixed - narrow.fixed < 4 * 640 * 8
    assert narrow.batch(narrow.fixed + 10 * narrow.sample) == 10
    assert narrow.batch(1) == 1


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_needs_of_compiled_parts() -> None:
    chosen = specimen("scripted_submodule")
    assert Gradiometer(chosen.build()).needs(chosen.inputs(3)).sample > 0


def test_several_directions_share_the_memory() -> None:
    need = Gradiometer(nn.Linear(8, 4).eval()).needs(torch.rand(2, 8))
    samples, directions = need.parts(2**30, 10, 2**20, 0)
    assert directions == 10
    assert samples > 1
    samples, directions = need.parts(need.fixed + 2**25 + 2**22, 10, 2**20, 0)
    assert samples == 1
    assert 1 <= directions < 10
