"""CUDA sources compile for every generation of cards, by the compiler that CuPy uses, without a GPU."""

import re

import pytest
import torch

from tests.kernels import nvrtc
from truffle.kernels.hash_codes import gpu_cupy as hash_codes
from truffle.kernels.quantize_keys import gpu_cupy as quantize_keys
from truffle.kernels.scan_sample import gpu_cupy as scan_sample

CAPABILITIES = (80, 89, 90, 120)
SPILLED_BYTES = 64  # a thread
BF16, F32 = torch.bfloat16, torch.float32
SHAPES = [  # d, K, terms of a plane, dtype
    (128, 10, 1, BF16), (128, 16, 3, BF16), (64, 8, 1, BF16), (80, 7, 1, BF16), (256, 10, 1, BF16), (20, 1, 1, BF16),
    (128, 10, 1, F32), (64, 16, 3, F32), (256, 10, 3, F32),
]  # fmt: skip

pytestmark = pytest.mark.skipif(nvrtc.found() is None, reason="needs NVRTC (pip install nvidia-cuda-nvrtc)")


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(("d", "K", "terms", "dtype"), SHAPES)
def test_hash_codes_compiles(capability, d, K, terms, dtype):
    compiles(capability, hash_codes.SOURCE, hash_codes.options(d, K, terms, dtype))


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(("d", "bits", "dtype"), [(128, 4, BF16), (80, 1, F32), (256, 2, BF16)])
def test_quantize_keys_compiles(capability, d, bits, dtype):
    compiles(capability, quantize_keys.SOURCE, quantize_keys.options(d, bits, dtype))


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(
    ("d", "bits", "group", "heads", "priority"), [(128, 4, 4, 4, False), (80, 2, 7, 1, False), (256, 1, 8, 8, True)]
)
def test_scan_sample_compiles(capability, d, bits, group, heads, priority):
    compiles(capability, scan_sample.SOURCE, scan_sample.options(d, bits, group, heads, priority))


def compiles(capability, source, options):
    told = (f"--gpu-architecture=sm_{capability}", "--ptxas-options=-v", *options)
    code, log = nvrtc.compiled(source.read_text(encoding="utf-8"), told)
    assert code.startswith(b"\x7fELF")
    spilled = [int(found) for found in re.findall(r"(\d+) bytes spill stores", log)]
    assert spilled, log
    assert max(spilled) <= SPILLED_BYTES


def test_a_mistake_is_told_in_the_compilers_words():
    with pytest.raises(nvrtc.Failed, match="undeclared_name"):
        nvrtc.compiled("__global__ void kernel() { undeclared_name = 1; }", ("--gpu-architecture=sm_80",))
