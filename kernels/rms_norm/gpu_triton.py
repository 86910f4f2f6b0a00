"""rms_norm in Triton: a program a row, read once."""

# pyright: reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false

import torch
import triton
import triton.language as tl

from truffle.kernels.contract import Needs
from truffle.kernels.registry import implements

NUMBERS_PER_THREAD = 8  # 16 bytes of bfloat16, one load


@implements("rms_norm", "gpu_triton", Needs(packages=("triton",), device="cuda", extra="gpu"))
def rms_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    out: torch.Tensor,
    *,
    epsilon: float,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    n, width = x.shape
    if n > 0:
        with torch.cuda.device_of(x):
            norm_row[(n,)](x, weight, out, epsilon, **tiling(width))


def tiling(width: int) -> dict:
    """Constants of `norm_row` for rows of `width`."""
    wide = triton.next_power_of_2(width)
    return {"D": width, "WIDE": wide, "num_warps": min(16, max(1, wide // (32 * NUMBERS_PER_THREAD)))}


@triton.jit
def norm_row(
    p_x,  # [n, D]
    p_weight,  # [D]
    p_out,  # [n, D]
    epsilon,
    D: tl.constexpr,
    WIDE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    o_d = tl.arange(0, WIDE)
    m_d = o_d < D
    b_x = tl.load(p_x + row * D + o_d, mask=m_d, other=0.0).to(tl.float32)
    b_weight = tl.load(p_weight + o_d, mask=m_d, other=0.0).to(tl.float32)
    b_mean = tl.sum(b_x * b_x, 0) / D
    b_out = b_x * tl.rsqrt(b_mean + epsilon) * b_weight
    tl.store(p_out + row * D + o_d, b_out.to(p_out.dtype.element_ty), mask=m_d)
