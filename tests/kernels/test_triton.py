"""The Triton kernels without a GPU: interpreted, against the reference."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from truffle.kernels import registry
from truffle.kernels.checks import ArgumentError
from truffle.kernels.workspace import workspace

pytest.importorskip("triton")
interpreted = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.mark.skipif(interpreted, reason="is the interpreted run")
def test_interpreted_kernels_agree_with_the_reference():
    suite = Path(__file__).with_name("test_conformance.py")
    # A GPU takes no number of threads, and an interpreter takes half a minute for what cards and CPUs do at once.
    chosen = "gpu_triton and not [3- and not -long"
    command = [sys.executable, "-m", "pytest", "-q", str(suite), "-k", chosen]
    hidden = {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    root = Path(__file__).parents[2]
    run = subprocess.run(command, cwd=root, env=os.environ | hidden, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert " skipped" not in run.stdout, run.stdout[-3000:]


@pytest.mark.skipif(interpreted, reason="an interpreted kernel takes what is not on a GPU")
@pytest.mark.parametrize(
    "op",
    ["hash_codes", "retrieve", "sparse_attend", "dense_attend", "merge_states", "rms_norm", "quantize_keys",
     "scan_sample"],
)  # fmt: skip
def test_tensors_that_are_not_on_a_gpu_are_refused(op):
    contract = registry.contract(op)
    importlib.import_module(f"truffle.kernels.{op}.gpu_triton")
    with pytest.raises(ArgumentError, match=f"expected a CUDA tensor for {op}/gpu_triton, got cpu"):
        registry._registered[op, "gpu_triton"](**contract.arguments(contract.cases[0]))


def test_scratch_grows_and_stays_where_it_was():
    device = torch.device("cpu")
    first = workspace(device, "test", 100)
    larger = workspace(device, "test", 1000)
    assert len(first) >= 100
    assert len(larger) >= 1000
    assert workspace(device, "test", 128).data_ptr() == first.data_ptr()
    assert workspace(device, "other", 128).data_ptr() != first.data_ptr()
