"""What the Triton kernels' callers share."""

import os

import torch
import triton.language as tl

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def operand(dtype: torch.dtype) -> tl.dtype:
    """What numbers of `dtype` are multiplied as: the interpreter cannot multiply bfloat16, which float32 holds."""
    return tl.bfloat16 if dtype == torch.bfloat16 and not INTERPRETED else tl.float32
