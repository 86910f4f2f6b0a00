"""swiglu in Triton: one pass over the products with both matrices."""

# pyright: reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false

import torch
import triton
import triton.language as tl

from truffle.kernels.contract import Needs
from truffle.kernels.registry import implements


@implements("swiglu", "gpu_triton", Needs(packages=("triton",), device="cuda", extra="gpu"))
def swiglu(
    gate_up: torch.Tensor,
    out: torch.Tensor,
    *,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    n, width = out.shape
    if n > 0:
        with torch.cuda.device_of(out):
            gate_row[(n, triton.cdiv(width, tiling()["BLOCK"]))](gate_up, out, width, **tiling())


def tiling() -> dict:
    """Constants of `gate_row`."""
    return {"BLOCK": 512, "num_warps": 2}


@triton.jit
def gate_row(
    p_gate_up,  # [n, 2 * width]
    p_out,  # [n, width]
    width,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    o_d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    m_d = o_d < width
    p_gate = p_gate_up + row * 2 * width
    b_gate = tl.load(p_gate + o_d, mask=m_d, other=0.0).to(tl.float32)
    b_up = tl.load(p_gate + width + o_d, mask=m_d, other=0.0).to(tl.float32)
    b_out = b_gate / (1.0 + tl.exp(-b_gate)) * b_up
    tl.store(p_out + row * width + o_d, b_out.to(p_out.dtype.element_ty), mask=m_d)
