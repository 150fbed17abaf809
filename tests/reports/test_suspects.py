"""The page of suspects: ranked, self-contained, on one scale."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gradiometer.anomaly import GradCon, make_network, mean_gradient
from gradiometer.data import Images
from gradiometer.errors import InputError, NotFittedError
from gradiometer.reports import suspects


def noise(count: int, seed: int) -> torch.Tensor:
    return torch.randint(60, 70, (count, 1, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def detector() -> GradCon:
    network = make_network("cae", 1, 12, seed=0).eval()
    known = noise(40, 0)
    fitted = GradCon(network, mean_gradient(network, known.numpy()), score="reconstruction").fit(known.numpy())
    return fitted.calibrate(noise(40, 1).numpy(), 0.05)


def test_the_least_normal_image_comes_first_and_its_spot_shines(detector: GradCon, tmp_path: Path) -> None:
    pixels = noise(6, 2)
    pixels[4, 0, 2:5, 7:10] = 255
    images = Images.of(pixels, name="<tile>")
    path = suspects.write(detector, images, Images.of(noise(40, 1)), tmp_path / "new" / "page.html", top=3)
    page = path.read_text(encoding="utf-8")
    names = re.findall(r'class="name">\d+\. (.*?)</p>', page)
    assert names[0] == "&lt;tile&gt;#4"
    assert len(names) == 3
    assert not re.search(r'(src|href)="(?!data:)', page)
    uris = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(uris) == 9
    heat = np.asarray(Image.open(io.BytesIO(base64.b64decode(uris[1]))).convert("RGB")).astype(int).sum(2)
    scale = heat.shape[0] // 12
    assert heat[3 * scale, 8 * scale] == heat.max() == 510  # yellow
    assert np.median(heat) < 100


def test_ranked_by_spot_a_small_defect_beats_a_darker_image(detector: GradCon) -> None:
    pixels = noise(6, 2)
    pixels[1] -= 25  # an untrained network makes everything grey
    pixels[4, 0, 3, 8] = 255
    known, images = Images.of(noise(80, 1)), Images.of(pixels)
    by_score, by_spot = (suspects.render(detector, images, known, by=by) for by in ("score", "spot"))  # type: ignore[arg-type]
    assert "1. image#1<" in by_score
    assert "1. image#4<" in by_spot
    assert "set on 40 of them. The score is that of the most unusual spot" in " ".join(by_spot.split())
    with pytest.raises(InputError, match="calibration images"):
        suspects.render(detector, images, Images.of(noise(20, 1)), by="spot")


def test_a_page_that_cannot_be_is_refused(detector: GradCon) -> None:
    images = Images.of(noise(3, 2))
    with pytest.raises(InputError, match="top is 0"):
        suspects.render(detector, images, images, top=0)
    fresh = detector.again().fit(noise(40, 0).numpy())
    with pytest.raises(NotFittedError, match="calibrate"):
        suspects.render(fresh, images, images)
