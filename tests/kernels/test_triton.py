"""The Triton kernels without a GPU: interpreted, against the reference."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
interpreted = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.mark.skipif(interpreted, reason="is the interpreted run")
def test_interpreted_kernels_agree_with_the_reference():
    suite = Path(__file__).with_name("test_conformance.py")
    command = [sys.executable, "-m", "pytest", "-q", str(suite), "-k", "gpu_triton"]
    hidden = {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    root = Path(__file__).parents[2]
    run = subprocess.run(command, cwd=root, env=os.environ | hidden, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert " skipped" not in run.stdout, run.stdout[-3000:]
