"""hash_codes in Triton: project, take signs and pack them in one kernel, on the tensor cores.

A float32 plane is exactly the sum of three bfloat16 numbers, so bfloat16 tokens need three exact products
accumulated in float32; the centre's projection is subtracted afterwards. float32 tokens are centred first and
multiplied as three TF32 products, which lose about 2^-22 of each. Packing is a product too, of bits with
powers of two, so that tables fill a tile of planes without padding K to a power of two.
"""

# pyright: reportPossiblyUnboundVariable=false

import torch
import triton
import triton.language as tl

from truffle.kernels.contract import Needs
from truffle.kernels.registry import implements

PACK = 16  # tables a tile at most: the narrowest product
DEPTH = 32  # dimensions a turn; twice as deep, the three parts of the planes spill from the registers


@implements("hash_codes", "gpu_triton", Needs(packages=("triton",), device="cuda", extra="gpu"))
def hash_codes(
    x: torch.Tensor,
    planes: torch.Tensor,
    center: torch.Tensor | None,
    codes: torch.Tensor,
    *,
    K: int,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    R, n, d = x.shape
    L = codes.shape[1]
    # Without a centre a tile may run over requests: a step's queries are one token each.
    spans, span = (1, R * n) if center is None else (R, n)
    if span * spans * L == 0:
        return
    options = tiling(x.dtype, K, d, span)
    grid = (spans * triton.cdiv(span, options["TOKENS"]) * triton.cdiv(L, options["TABLES"]),)
    with torch.cuda.device_of(x):
        hash_kernel[grid](x, planes, center, codes, n, L, span, **options)


def tiling(dtype: torch.dtype, K: int, d: int, span: int) -> dict:
    """Constants of the kernel for tokens of `dtype` in runs of `span`."""
    split = dtype == torch.bfloat16
    planes = 64
    # A loop of one turn is not pipelined, and Triton 3.6 gets warp-group products outside of a pipeline wrong on
    # sm_90 (seen on an H200 for d of 16 and 32); tiles of fewer than 64 tokens do without them.
    most = 32 if d <= DEPTH else 128 if split else 64
    return {
        "K": K,
        "D": d,
        "SPLIT": split,
        # The interpreter cannot multiply bfloat16; float32 holds the same numbers.
        "OPERAND": tl.bfloat16 if isinstance(hash_kernel, triton.JITFunction) else tl.float32,
        "TOKENS": min(most, max(16, triton.next_power_of_2(span))),
        "PLANES": planes,
        "TABLES": min(PACK, planes // K),
        "PACKED": PACK,
        "DEPTH": DEPTH,
        "num_warps": 4,
        "num_stages": 2,
    }


@triton.jit
def hash_kernel(
    p_x,  # [R, n, d]
    p_planes,  # [d, L*K]
    p_center,  # [R, d] or none
    p_codes,  # [R, L, n]
    n,
    L,
    span,
    K: tl.constexpr,
    D: tl.constexpr,
    SPLIT: tl.constexpr,
    OPERAND: tl.constexpr,
    TOKENS: tl.constexpr,
    PLANES: tl.constexpr,
    TABLES: tl.constexpr,
    PACKED: tl.constexpr,
    DEPTH: tl.constexpr,
):
    # Neighbouring programs share their tokens, which are many; the planes stay in the second-level cache.
    pid = tl.program_id(0).to(tl.int64)
    groups = tl.cdiv(L, TABLES)
    group, tile = pid % groups, pid // groups
    tiles = tl.cdiv(span, TOKENS)
    r = tile // tiles

    o_token = tile % tiles * TOKENS + tl.arange(0, TOKENS)
    m_token = o_token < span
    o_row = r * span + o_token
    o_plane = tl.arange(0, PLANES)
    o_column = group * TABLES * K + o_plane
    m_plane = (o_plane < TABLES * K) & (o_column // K < L)

    b_sum = tl.zeros([TOKENS, PLANES], tl.float32)
    b_offset = tl.zeros([PLANES], tl.float32)
    for k in range(0, D, DEPTH):
        o_k = k + tl.arange(0, DEPTH)
        m_k = o_k < D
        b_x = tl.load(p_x + o_row[:, None] * D + o_k, mask=m_token[:, None] & m_k, other=0.0)
        p_w = p_planes + o_k[:, None].to(tl.int64) * L * K + o_column
        b_w = tl.load(p_w, mask=m_k[:, None] & m_plane, other=0.0)
        if p_center is not None:
            b_center = tl.load(p_center + r * D + o_k, mask=m_k, other=0.0)
        if SPLIT:
            b_high = b_w.to(tl.bfloat16)
            b_rest = b_w - b_high.to(tl.float32)
            b_middle = b_rest.to(tl.bfloat16)
            b_low = (b_rest - b_middle.to(tl.float32)).to(tl.bfloat16)
            b_x = b_x.to(OPERAND)
            b_sum = tl.dot(b_x, b_low.to(OPERAND), b_sum)
            b_sum = tl.dot(b_x, b_middle.to(OPERAND), b_sum)
            b_sum = tl.dot(b_x, b_high.to(OPERAND), b_sum)
            if p_center is not None:
                b_offset += tl.sum(b_center[:, None] * b_w, 0)
        else:
            if p_center is not None:
                b_x -= b_center
            b_sum = tl.dot(b_x, b_w, b_sum, input_precision="tf32x3")

    b_bits = (b_sum - b_offset > 0).to(OPERAND)
    o_table = tl.arange(0, PACKED)
    b_powers = tl.where(o_plane[:, None] // K == o_table, 1 << (o_plane[:, None] % K), 0)
    b_codes = tl.dot(b_bits, b_powers.to(tl.float32).to(OPERAND))

    o_request, o_place = o_row // n, o_row % n
    o_out = group * TABLES + o_table
    m_out = m_token[:, None] & (o_table < TABLES) & (o_out < L)
    p_out = p_codes + (o_request[:, None] * L + o_out) * n + o_place[:, None]
    tl.store(p_out, b_codes.to(tl.int32).to(tl.uint16), mask=m_out)
