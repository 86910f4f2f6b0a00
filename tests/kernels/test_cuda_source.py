"""CUDA sources compile for every generation of cards, by the compiler that CuPy uses, without a GPU."""

import re

import pytest
import torch

from tests.kernels import nvrtc
from truffle.kernels.hash_codes import gpu_cupy

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
    options = (f"--gpu-architecture=sm_{capability}", "--ptxas-options=-v", *gpu_cupy.options(d, K, terms, dtype))
    code, log = nvrtc.compiled(gpu_cupy.SOURCE.read_text(encoding="utf-8"), options)
    assert code.startswith(b"\x7fELF")
    spilled = [int(found) for found in re.findall(r"(\d+) bytes spill stores", log)]
    assert spilled, log
    assert max(spilled) <= SPILLED_BYTES


def test_a_mistake_is_told_in_the_compilers_words():
    with pytest.raises(nvrtc.Failed, match="undeclared_name"):
        nvrtc.compiled("__global__ void kernel() { undeclared_name = 1; }", ("--gpu-architecture=sm_80",))
