"""Kernels in C, for what no sequence of tensor operations does as fast.

They are compiled with the compiler of the machine when they are first needed, and kept in the user's cache folder.
Where there is no compiler, or the environment variable `GRADIOMETER_KERNELS` is `off`, other exact forms do the same.
"""

from gradiometer.gradients.kernels.correlation import Rows, Window, in_tiles, products, rows
from gradiometer.gradients.kernels.library import SWITCH, fits, missing
from gradiometer.gradients.kernels.sequence import sequences
from gradiometer.gradients.kernels.winograd import image_gradient

__all__ = [
    "SWITCH",
    "Rows",
    "Window",
    "fits",
    "image_gradient",
    "in_tiles",
    "missing",
    "products",
    "rows",
    "sequences",
]
