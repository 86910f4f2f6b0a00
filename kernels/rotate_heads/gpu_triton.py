"""rotate_heads in Triton: a program a few heads of a row."""

# pyright: reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false

import torch
import triton
import triton.language as tl

from truffle.kernels.contract import Needs
from truffle.kernels.registry import implements


@implements("rotate_heads", "gpu_triton", Needs(packages=("triton",), device="cuda", extra="gpu"))
def rotate_heads(
    stacked: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    q: torch.Tensor,
    keys: torch.Tensor,
    told: torch.Tensor | None = None,
    *,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    n, H, d = q.shape
    heads = H + keys.shape[1]
    options = tiling(d)
    if n > 0:
        with torch.cuda.device_of(q):
            rotate_row[(n, triton.cdiv(heads, options["HEADS"]))](stacked, cos, sin, q, keys, told, H, heads, **options)


def tiling(d: int) -> dict:
    """Constants of `rotate_row` for heads of d dimensions."""
    return {"HALF": d // 2, "WIDE": triton.next_power_of_2(d // 2), "HEADS": 4, "num_warps": 1}


@triton.jit
def rotate_row(
    p_stacked,  # [n, heads + Hkv, 2 * HALF]
    p_cos,  # [n, HALF]
    p_sin,  # [n, HALF]
    p_q,  # [n, H, 2 * HALF]
    p_keys,  # [n, heads - H, 2 * HALF]
    p_told,  # as q, or none
    H,
    heads,  # of queries and keys
    HALF: tl.constexpr,
    WIDE: tl.constexpr,
    HEADS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    o_head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)[:, None]
    o_d = tl.arange(0, WIDE)[None, :]
    m_d = o_d < HALF
    m_in = (o_head < heads) & m_d
    b_cos = tl.load(p_cos + row * HALF + o_d, mask=m_d, other=0.0)
    b_sin = tl.load(p_sin + row * HALF + o_d, mask=m_d, other=0.0)
    p_a = p_stacked + (row * (2 * heads - H) + o_head) * (2 * HALF) + o_d
    b_a = tl.load(p_a, mask=m_in, other=0.0).to(tl.float32)
    b_b = tl.load(p_a + HALF, mask=m_in, other=0.0).to(tl.float32)
    b_first = (b_a * b_cos - b_b * b_sin).to(p_q.dtype.element_ty)
    b_second = (b_b * b_cos + b_a * b_sin).to(p_q.dtype.element_ty)

    m_q = (o_head < H) & m_d
    o_q = (row * H + o_head) * (2 * HALF) + o_d
    tl.store(p_q + o_q, b_first, mask=m_q)
    tl.store(p_q + o_q + HALF, b_second, mask=m_q)
    if p_told is not None:
        tl.store(p_told + o_q, b_first, mask=m_q)
        tl.store(p_told + o_q + HALF, b_second, mask=m_q)
    m_key = (o_head >= H) & m_in
    o_key = (row * (heads - H) + o_head - H) * (2 * HALF) + o_d
    tl.store(p_keys + o_key, b_first, mask=m_key)
    tl.store(p_keys + o_key + HALF, b_second, mask=m_key)
