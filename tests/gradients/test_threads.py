"""Several threads read one model, each as if it were alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from gradiometer.gradients import Gradiometer


def test_readings_of_several_threads_do_not_meet() -> None:
    torch.manual_seed(0)
    model = (
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)).eval().requires_grad_(False)
    )
    images = torch.rand(24, 1, 8, 8)
    meters = [Gradiometer(model, parameters=names) for names in ("*", "3.*", "0.*")]
    expected = [meter.squared_norms(images).values for meter in meters]

    def read(number: int) -> list[Tensor]:
        meter = meters[number % 3]
        parts = [meter.squared_norms(image).values for image in images.split(1)]
        return [meter.squared_norms(images).values, torch.cat(parts)]

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(read, range(12)))
    for number, readings in enumerate(found):
        for each in readings:
            torch.testing.assert_close(each, expected[number % 3], rtol=1e-4, atol=0)
    assert not any(parameter.requires_grad for parameter in model.parameters())
