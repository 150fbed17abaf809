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
from gradiometer.errors import ArtefactError, InputError, NotFittedError
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
    with pytest.raises(InputError, match="needs 38 of them, and there are 37"):
        suspects.render(detector, images, Images.of(noise(37, 1)), by="spot")


def test_the_map_by_spot_is_brightest_where_the_image_was_ranked(detector: GradCon) -> None:
    known, pixels = noise(80, 1), noise(3, 2)
    generator = torch.Generator().manual_seed(3)
    for part in (known, pixels):  # normal images have anything on the right
        part[..., 6:] = torch.randint(0, 256, part[..., 6:].shape, dtype=torch.uint8, generator=generator)
    pixels[1, 0, 3, 2] = 20  # a difference that is small beside that, where nothing ever differs
    images = Images.of(pixels)
    assert "1. image#1<" in suspects.render(detector, images, Images.of(known), by="spot")
    by_score, by_spot = (
        suspects.render(detector, images.select([1]), Images.of(known), by=by)  # type: ignore[arg-type]
        for by in ("score", "spot")
    )
    assert _heat_map(by_score)[3, 2] == 0  # dark beside what is normal elsewhere
    heat = _heat_map(by_spot)
    assert heat[3, 2] == heat.max() == 510  # yellow
    assert (heat == 510).sum() <= 3
    assert "what normal images have at the same place" in " ".join(by_spot.split())
    assert "at the same place" not in " ".join(by_score.split())


def _heat_map(page: str) -> np.ndarray:
    """The map of the reconstruction of the first image of a page, as sums over the colours."""
    uri = re.findall(r'src="data:image/png;base64,([^"]+)"', page)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))).convert("RGB")).astype(int).sum(2)


def test_a_page_of_some_images_says_of_how_many(detector: GradCon) -> None:
    images, known = Images.of(noise(3, 2)), Images.of(noise(40, 1))
    assert "<p>3 of 7 images were looked at.</p>" in suspects.render(detector, images, known, out_of=7)
    assert "looked at" not in suspects.render(detector, images, known)


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    detector: GradCon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.html"
    page.write_text("an older page")

    def full(self: Path, text: str, **_: object) -> int:
        self.write_bytes(text[:10].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ArtefactError, match="No space left on device"):
        suspects.write(detector, Images.of(noise(3, 2)), Images.of(noise(40, 1)), page)
    assert page.read_text() == "an older page"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(ArtefactError, match="choose another folder"):
        suspects.write(detector, Images.of(noise(3, 2)), Images.of(noise(40, 1)), page / "page.html")


def test_a_page_that_cannot_be_is_refused(detector: GradCon) -> None:
    images = Images.of(noise(3, 2))
    with pytest.raises(InputError, match="top is 0"):
        suspects.render(detector, images, images, top=0)
    fresh = detector.again().fit(noise(40, 0).numpy())
    with pytest.raises(NotFittedError, match="calibrate"):
        suspects.render(fresh, images, images)
