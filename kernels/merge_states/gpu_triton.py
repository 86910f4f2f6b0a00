"""merge_states in Triton: a program a query head, the parts a block at a time with an online softmax."""

# pyright: reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false

import torch
import triton
import triton.language as tl

from truffle.kernels.contract import Needs
from truffle.kernels.registry import implements

PARTS = 16  # a turn


@implements("merge_states", "gpu_triton", Needs(packages=("triton",), device="cuda", extra="gpu"))
def merge_states(
    outs: torch.Tensor,
    lses: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    rows = lse.numel()
    if rows > 0:
        with torch.cuda.device_of(out):
            merge_kernel[(rows,)](outs, lses, out, lse, len(outs), **tiling(len(outs), out.shape[-1]))


def tiling(parts: int, d: int) -> dict:
    """Constants of `merge_kernel`."""
    turn = min(PARTS, triton.next_power_of_2(max(1, parts)))
    return {"D": d, "WIDE": triton.next_power_of_2(d), "PARTS": turn, "num_warps": 4 if turn > 2 else 1}


@triton.jit
def merge_kernel(
    p_outs,  # [parts, rows, D]
    p_lses,  # [parts, rows]
    p_out,  # [rows, D]
    p_lse,  # [rows]
    parts,
    D: tl.constexpr,
    WIDE: tl.constexpr,
    PARTS: tl.constexpr,
):
    row, rows = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    o_d = tl.arange(0, WIDE)
    b_max, b_total = -float("inf"), 0.0
    b_sum = tl.zeros([WIDE], tl.float32)
    for first in range(0, parts, PARTS):
        o_part = first + tl.arange(0, PARTS)
        m_part = o_part < parts
        o_state = o_part.to(tl.int64) * rows + row
        b_lse = tl.load(p_lses + o_state, mask=m_part, other=-float("inf"))
        b_part = tl.load(p_outs + o_state[:, None] * D + o_d, mask=m_part[:, None] & (o_d < D), other=0.0)
        b_new = tl.maximum(b_max, tl.max(b_lse, 0))
        b_origin = tl.where(b_new == -float("inf"), 0.0, b_new)
        b_weight, b_shrink = tl.exp(b_lse - b_origin), tl.exp(b_max - b_origin)
        b_total = b_total * b_shrink + tl.sum(b_weight, 0)
        b_sum = b_sum * b_shrink + tl.sum(b_weight[:, None] * b_part, 0)
        b_max = b_new
    b_divisor = tl.where(b_total > 0, b_total, 1.0)
    tl.store(p_out + row * D + o_d, (b_sum / b_divisor).to(p_out.dtype.element_ty), mask=o_d < D)
    tl.store(p_lse + row, tl.where(b_total > 0, b_max + tl.log(b_divisor), -float("inf")))
