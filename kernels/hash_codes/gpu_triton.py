"""hash_codes in Triton: project, take signs and pack them in one kernel, on the tensor cores.

A program keeps a tile of tokens and walks over blocks of planes, which stay in the second-level cache. Planes that
bfloat16 holds, as those of `hyperplanes`, need one product with bfloat16 tokens, exact but for float32 sums; any other
float32 plane is exactly the sum of three such. float32 tokens take three TF32 products, which lose about 2^-22 of each.
Packing is a product too, of bits with powers of two, so that tables fill a block without padding K to a power of two.
"""

# pyright: reportPossiblyUnboundVariable=false, reportGeneralTypeIssues=false

import torch
import triton
import triton.language as tl

from truffle.kernels import plane_terms
from truffle.kernels.contract import Needs
from truffle.kernels.registry import implements
from truffle.kernels.triton_support import operand
from truffle.kernels.workspace import workspace

TILE_BYTES = 32 << 10  # of tokens
BLOCK_BYTES = 16 << 10  # of planes; two are in flight
PROGRAMS = 512  # to share the card: a few tokens are shared out by tables


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
    if R * n * L == 0:
        return
    parts = _parts(x.dtype, planes)
    options = tiling(x.dtype, len(parts), K, d, n)
    blocks = _blocks(planes, parts, K, options)
    groups, programs = len(blocks), R * triton.cdiv(n, options["TOKENS"])
    each = triton.cdiv(groups, min(groups, triton.cdiv(PROGRAMS, programs)))
    with torch.cuda.device_of(x):
        offsets = None
        if center is not None:
            offsets = workspace(x.device, "hash_codes", R * groups * options["PLANES"])
            shared = {name: options[name] for name in ("D", "WIDE", "TERMS", "PLANES")}
            project_centers[(groups, R)](center, blocks, offsets, **shared)
        hash_kernel[(programs, triton.cdiv(groups, each))](x, blocks, offsets, codes, n, L, each, **options)


def _parts(dtype: torch.dtype, planes: torch.Tensor) -> torch.Tensor:
    """[T, d, L*K]: bfloat16 terms for bfloat16 tokens, else the planes themselves."""
    if dtype == torch.bfloat16:
        return plane_terms.once(planes, "terms", lambda: plane_terms.terms(planes))
    return planes[None]


def _blocks(planes: torch.Tensor, parts: torch.Tensor, K: int, options: dict) -> torch.Tensor:
    columns = options["TABLES"] * K, options["PLANES"], options["WIDE"]
    return plane_terms.once(planes, (parts.dtype, *columns), lambda: plane_terms.blocks(parts, *columns))


def tiling(dtype: torch.dtype, terms: int, K: int, d: int, n: int) -> dict:
    """Constants of `hash_kernel` for n tokens of `dtype` a request and planes of as many terms."""
    wide = max(16, triton.next_power_of_2(d))
    row_bytes = wide * (2 if dtype == torch.bfloat16 else 8)  # float32 is split in two
    # Triton 3.6 got warp-group products of few dimensions wrong on sm_90 (seen on an H200 for d of 16 and 32); tiles of
    # fewer than 64 tokens do without them.
    most = 32 if d <= 32 else min(128, TILE_BYTES // row_bytes)
    planes = max(16, min(64, triton.next_power_of_2(BLOCK_BYTES // (row_bytes * terms))))
    return {
        "K": K,
        "D": d,
        "WIDE": wide,
        "TERMS": terms,
        "OPERAND": operand(dtype),
        "TOKENS": min(most, max(16, triton.next_power_of_2(n))),
        "PLANES": planes,
        "TABLES": planes // K,
        "PACKED": max(16, triton.next_power_of_2(planes // K)),  # the narrowest product has 16 columns
        "num_warps": 4,
        "num_stages": 2,
    }


@triton.jit
def project_centers(
    p_center,  # [R, d]
    p_blocks,  # [groups, TERMS, PLANES, WIDE]
    p_offsets,  # [R, groups, PLANES]
    D: tl.constexpr,
    WIDE: tl.constexpr,
    TERMS: tl.constexpr,
    PLANES: tl.constexpr,
):
    group, r, groups = tl.program_id(0), tl.program_id(1), tl.num_programs(0)
    o_plane, o_d = tl.arange(0, PLANES), tl.arange(0, WIDE)
    b_center = tl.load(p_center + r * D + o_d, mask=o_d < D, other=0.0)
    b_offset = tl.zeros([PLANES], tl.float32)
    for i in tl.static_range(TERMS):
        o_block = (group * TERMS + TERMS - 1 - i) * PLANES * WIDE
        b_w = tl.load(p_blocks + o_block + o_plane[:, None] * WIDE + o_d)
        b_offset += tl.sum(b_w.to(tl.float32) * b_center, 1)
    tl.store(p_offsets + (r * groups + group) * PLANES + o_plane, b_offset)


# L and `each` stay unknown to the compiler: a loop of one turn would be unrolled, and its products not pipelined.
@triton.jit(do_not_specialize=["L", "each"])
def hash_kernel(
    p_x,  # [R, n, d]
    p_blocks,  # [groups, TERMS, PLANES, WIDE]
    p_offsets,  # [R, groups, PLANES] or none
    p_codes,  # [R, L, n]
    n,
    L,
    each,  # groups a program
    K: tl.constexpr,
    D: tl.constexpr,
    WIDE: tl.constexpr,
    TERMS: tl.constexpr,
    OPERAND: tl.constexpr,
    TOKENS: tl.constexpr,
    PLANES: tl.constexpr,
    TABLES: tl.constexpr,
    PACKED: tl.constexpr,
):
    tiles, groups = tl.cdiv(n, TOKENS), tl.cdiv(L, TABLES)
    r = (tl.program_id(0) // tiles).to(tl.int64)
    first = tl.program_id(0) % tiles * TOKENS
    o_token, o_d = tl.arange(0, TOKENS), tl.arange(0, WIDE)
    o_plane, o_table = tl.arange(0, PLANES), tl.arange(0, PACKED)
    m_token = first + o_token < n

    p_tile = p_x + (r * n + first) * D
    b_x = tl.load(p_tile + o_token[:, None] * D + o_d, mask=m_token[:, None] & (o_d < D), other=0.0).to(OPERAND)
    b_powers = tl.where(o_plane[:, None] // K == o_table, 1 << (o_plane[:, None] % K), 0)
    b_powers = b_powers.to(tl.float32).to(OPERAND)

    start = tl.program_id(1) * each
    for group in range(start, tl.minimum(start + each, groups)):
        b_sum = tl.zeros([TOKENS, PLANES], tl.float32)
        for i in tl.static_range(TERMS):
            o_block = (group * TERMS + TERMS - 1 - i) * PLANES * WIDE
            b_w = tl.load(p_blocks + o_block + o_plane[:, None] * WIDE + o_d).to(OPERAND)
            b_sum = tl.dot(b_x, tl.trans(b_w), b_sum, input_precision="tf32x3")
        if p_offsets is not None:
            b_bits = b_sum > tl.load(p_offsets + (r * groups + group) * PLANES + o_plane)
        else:
            b_bits = b_sum > 0
        b_codes = tl.dot(b_bits.to(OPERAND), b_powers)
        # Tokens lie side by side in a table's codes, so that a warp writes runs of them.
        p_out = p_codes + (r * L + group * TABLES) * n + first
        m_out = m_token[:, None] & (o_table < TABLES) & (group * TABLES + o_table < L)
        tl.store(p_out + o_table * n + o_token[:, None], b_codes.to(tl.int32).to(tl.uint16), mask=m_out)
