"""What every test gets: a fixed number of threads, fixed seeds, no display, and the folder of real data sets."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import settings

# No window, whatever the machine has.
matplotlib.use("Agg")

# Two threads unless told otherwise: sums are split the same way on every machine, and others find room beside them.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))

# Processes that tests start split their sums in the same way: MKL must not choose the number of threads by itself.
os.environ.setdefault("MKL_DYNAMIC", "FALSE")

# The first example of a property test may compile and load; a deadline would only measure the machine.
settings.register_profile("gradiometer", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("gradiometer")


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> Iterator[None]:
    """Seed every generator before each test, and put the settings of PyTorch that tests change back after it."""
    dtype = torch.get_default_dtype()
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries under test still draw from the legacy generator
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(dtype)
    torch.use_deterministic_algorithms(mode=False)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the real data sets as ``.npz`` files in the MedMNIST layout, one file per data set."""
    value = os.environ.get("GRADIOMETER_DATA_ROOT")
    if not value:
        pytest.skip("needs real data sets: set GRADIOMETER_DATA_ROOT to a folder of .npz files (MedMNIST layout)")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"GRADIOMETER_DATA_ROOT names {value!r}, which is not a folder")
    return folder
