"""`python -m gradiometer` is `gradiometer`."""

from __future__ import annotations

import sys

from gradiometer.cli import main

sys.exit(main())
