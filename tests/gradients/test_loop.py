"""The reference itself against torch.func: vmap over grad of a functional call."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call, grad, vmap

from tests.gradients import loop
from tests.gradients.measure import expected
from tests.zoo import ZOO, specimen

NAMES = (
    "mlp",
    "conv2d_anisotropic",
    "conv_transpose3d_everything",
    "residual_block",
    "layer_norm_over_two_of_three",
    "attention_by_hand",
    "module_at_three_resolutions",
    "weights_shared_by_two_kinds",
    "unused_parameters",
)


@pytest.mark.parametrize("name", NAMES)
def test_the_loop_equals_torch_func(name: str) -> None:
    chosen = specimen(name)
    model = chosen.build(torch.float64)
    parameters = {key: value.detach() for key, value in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(values, one):
        return loop.bce_with_logits()(functional_call(model, (values, buffers), (one.unsqueeze(0),)), one).sum()

    found = vmap(grad(loss), in_dims=(None, 0))(parameters, chosen.inputs(dtype=torch.float64))
    for key, wanted in expected(name).items():
        torch.testing.assert_close(found[key], wanted, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("chosen", ZOO[::9], ids=lambda each: each.name)
def test_specimens_are_built_the_same_way_every_time(chosen) -> None:
    one, two = chosen.build(), chosen.build()
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert not any(module.training for module in one.modules())
