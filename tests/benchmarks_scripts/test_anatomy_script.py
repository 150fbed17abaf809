"""Where the time of a reading goes: every parameter is there, and the parts make up the whole."""

import json

from measuring.networks import NETWORKS

from gradiometer import Gradiometer


def test_the_parts_of_a_reading(script, tmp_path):
    settings = ("--networks", "tiny", "--batch", 4, "--repeats", 3, "--output", tmp_path)
    printed, _ = script("anatomy", *settings)

    (found,) = json.loads((tmp_path / "anatomy.json").read_text())["sections"]
    network = NETWORKS["tiny"]
    model = network.make(0)
    plan = Gradiometer(model).plan(network.draw(4, 0))
    read = [name for use in found["uses"] for name in use["parameters"]]
    assert sorted(read) == sorted(line.parameter for line in plan.lines)
    forms = {name: form for use in found["uses"] for name, form in zip(use["parameters"], use["forms"], strict=True)}
    assert forms == {line.parameter: line.path for line in plan.lines}
    assert all(use["seconds"] > 0 for use in found["uses"])
    (convolution,) = [use for use in found["uses"] if "0.weight" in use["parameters"]]
    assert convolution["predicted"] > 0
    parts = found["parts"]
    assert all(0 < parts[name] < parts["whole"] for name in ("forward", "activations", "statistics"))
    assert printed == (tmp_path / "anatomy.md").read_text()
    assert "4.weight" not in printed  # numbers of a Sequential: the linear layer is the fifth
    assert "5.weight" in printed


def test_listening_leaves_the_instrument_as_it_was(script):
    from gradiometer.gradients.collector import Collector
    from gradiometer.gradients.reader import Reader
    from gradiometer.gradients.rules import costs

    before = Collector._keep, Reader.backward, costs.seconds
    script("anatomy", "--networks", "tiny", "--batch", 2, "--repeats", 1)
    assert (Collector._keep, Reader.backward, costs.seconds) == before
