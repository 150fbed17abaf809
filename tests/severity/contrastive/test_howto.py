"""The how-to on encoders runs on real photographs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "howto" / "encoders.md").read_text(encoding="utf-8")


def test_the_page_runs_on_photographs_of_the_retina(tmp_path: Path) -> None:
    root = os.environ.get("GRADIOMETER_DATA_ROOT")
    if not root or not (Path(root) / "retina_mnist.npz").is_file():
        pytest.skip("GRADIOMETER_DATA_ROOT names no folder with retina_mnist.npz")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    shares = {
        name: int(share) for name, share in re.findall(r"^(.*): (\d+)% of 400 photographs$", run.stdout, re.MULTILINE)
    }
    assert list(shares) == ["severity labels", "random weights"]
    assert min(shares.values()) > 55
