"""Figures: valid SVG in the colours of the page, and images that come back from their data URI."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from gradiometer.errors import InputError
from gradiometer.reports import figures


def test_histograms_take_colours_and_width_from_the_page(outcome):
    before = dict(mpl.rcParams)
    text = figures.histograms(outcome.scores[:1], prefix="one")
    assert dict(mpl.rcParams) == before
    root = ElementTree.fromstring(text)  # noqa: S314
    assert root.tag == "svg"
    assert "width" not in root.attrib
    assert root.find("title").text == "Scores of known images and of letters"
    for colour in ("currentColor", "var(--known)", "var(--challenge)"):
        assert colour in text
    assert "#01" not in text
    assert "#000000" not in text
    assert all(element.get("id", "one-").startswith("one-") for element in root.iter())


def test_scores_that_are_all_equal_can_be_drawn(outcome):
    assert "<svg" in figures.histograms(outcome.scores[-1:], prefix="flat")
    with pytest.raises(InputError, match="at least one detector"):
        figures.histograms([], prefix="none")


def test_the_figure_of_the_layers_names_every_tensor_and_the_furthest_in_words(outcome):
    shifted = outcome.profile.challenges["letters"].copy()
    shifted[:, 2] += 40
    readings = replace(outcome.profile, challenges={"letters": shifted})
    root = ElementTree.fromstring(figures.profile(readings, "letters", prefix="p"))  # noqa: S314
    texts = [element.text for element in root.iter("text")]
    assert set(readings.parameters) <= set(texts)
    assert "furthest from known images, in their standard deviations: layer2.weight (+" in root.find("desc").text


def test_a_figure_can_stand_alone(outcome):
    text = figures.standalone(figures.profile(outcome.profile, "letters", prefix=""))
    root = ElementTree.fromstring(text)  # noqa: S314
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    style = root.find("{http://www.w3.org/2000/svg}style").text
    for name in re.findall(r"var\((--[a-z]+)\)", text):
        assert f"{name}:" in style
    assert root.attrib["viewBox"]


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_comes_back_from_its_data_uri(channels):
    image = np.random.default_rng(0).integers(0, 256, (channels, 5, 7)).astype(np.uint8)
    uri = figures.data_uri(image)
    stored = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))
    np.testing.assert_array_equal(stored, image[0] if channels == 1 else image.transpose(1, 2, 0))


@pytest.mark.parametrize("wrong", [np.zeros((2, 4, 4), np.uint8), np.zeros((1, 4, 4)), np.zeros((4, 4), np.uint8)])
def test_other_arrays_are_not_images(wrong):
    with pytest.raises(InputError, match="an image must be uint8"):
        figures.data_uri(wrong)
