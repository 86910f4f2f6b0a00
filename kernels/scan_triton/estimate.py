"""Estimated scores in Triton: queries become whole numbers, whose products with codes are sums of four bytes each.

A block of codes has tokens in the lanes, so that a thread has tokens of its own, loads 16 bytes of each word at once
and adds up in registers. Sums of bytes (dp4a) then cost half of what reading the codes takes.
"""

# pyright: reportArgumentType=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportCallIssue=false

import triton
import triton.language as tl

from truffle.kernels import scan_scratch, scanning
from truffle.kernels.scan_triton.parts import MOST_PARTS, part_tokens
from truffle.kernels.triton_support import INTERPRETED

BINS = tl.constexpr(scan_scratch.BINS)
LARGEST_CODE = tl.constexpr(scanning.LARGEST_CODE)
LARGEST_QUERY = tl.constexpr(scanning.LARGEST_QUERY)
LOG2_E = tl.constexpr(1.4426950408889634)
EVEN = tl.constexpr(1.5 * 2**23)  # added and taken away again, it leaves a whole number, the nearest even
AHEAD = tl.constexpr(2)  # words that are asked for before those in hand are multiplied
EMULATED = tl.constexpr(INTERPRETED)


def query_tiling(d: int, words: int, bits: int) -> dict:
    """Constants of `quantise_query` for queries of as many words."""
    wide = triton.next_power_of_2(4 * words)
    # Products are rounded before anything is added to them, as everywhere.
    return {"D": d, "LENGTH": 4 * words, "WIDE": wide, "BITS": bits, "num_warps": 1, "enable_fp_fusion": False}


@triton.jit
def quantise_query(
    p_q,  # [B, H, D]
    p_queries,  # [B, H, LENGTH] int8
    p_corrections,  # [B, H]
    p_factors,  # [B, H]
    p_bins,  # [B, R, BINS], which become zeros
    scale,
    heads,  # of a row
    D: tl.constexpr,
    LENGTH: tl.constexpr,
    WIDE: tl.constexpr,
    BITS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    o_d = tl.arange(0, WIDE)
    b_q = tl.load(p_q + row * D + o_d, mask=o_d < D, other=0.0)
    b_size = tl.abs(b_q)
    largest = tl.max(b_size, 0)
    fine = (tl.min((b_size <= LARGEST_QUERY).to(tl.int32), 0) == 1) & (largest > 0)  # NaN is not
    b_place = tl.where(fine, b_q * tl.div_rn(LARGEST_CODE * 1.0, tl.where(fine, largest, 1.0)), 0.0)
    b_code = ((b_place + EVEN) - EVEN).to(tl.int32)
    tl.store(p_queries + row * LENGTH + o_d, b_code.to(tl.int8), mask=o_d < LENGTH)
    tl.store(p_corrections + row, tl.sum(b_code, 0) * ((1 << BITS) - 1))
    tl.store(p_factors + row, tl.where(fine, largest, 0.0) * (1 / LARGEST_CODE) * scale * LOG2_E)
    if row % heads == 0:
        for first in tl.static_range(0, BINS, 128):
            tl.store(p_bins + row // heads * BINS + first + tl.arange(0, 128), tl.zeros([128], tl.int32))


@triton.jit
def multiply_bytes(b_code, b_query, b_sum):
    """b_sum and the products of four unsigned with four signed bytes."""
    if EMULATED:
        for j in tl.static_range(4):
            b_sum += ((b_code >> (8 * j)) & 255) * ((b_query << (24 - 8 * j)) >> 24)
        return b_sum
    return tl.inline_asm_elementwise(
        "dp4a.u32.s32 $0, $1, $2, $3;", "=r,r,r,r", [b_code, b_query, b_sum], dtype=tl.int32, is_pure=True, pack=1
    )


@triton.jit
def words_from(p_token, m_block, first: tl.constexpr, W: tl.constexpr):
    """Up to AHEAD words of a tile of tokens, from `first` on."""
    found = ()
    for w in tl.static_range(first, min(first + AHEAD, W)):
        found += (tl.load(p_token + w * 64, mask=m_block, other=0),)
    return found


def tiling(group: int, words: int, bits: int) -> dict:
    """Constants of `estimate` for groups of query heads and tokens of as many words."""
    heads = min(8, triton.next_power_of_2(group))
    return {"GROUP": group, "HEADS": heads, "W": words, "BITS": bits, "TILE": 512, "num_warps": 4}


@triton.jit(do_not_specialize=["b", "blocks"])
def estimate(
    p_words,  # [Hkv, blocks, W, 64]
    p_scales,  # [Hkv, blocks, 64]
    p_queries,  # [B, H, W * FIELDS] int32
    p_corrections,  # [B, H]
    p_factors,  # [B, H]
    p_lengths,  # [B]
    p_scores,  # [B, H, stride]
    p_peaks,  # [B, H, MOST_PARTS]
    p_sums,  # [B, H, MOST_PARTS]
    b,
    blocks,
    stride,
    H,
    GROUP: tl.constexpr,
    HEADS: tl.constexpr,  # of a program
    W: tl.constexpr,
    BITS: tl.constexpr,
    TILE: tl.constexpr,
):
    FIELDS: tl.constexpr = 8 // BITS
    MASK: tl.constexpr = 0x01010101 * ((1 << BITS) - 1)
    CHUNKS: tl.constexpr = (GROUP + HEADS - 1) // HEADS
    part, g = tl.program_id(0), (tl.program_id(1) // CHUNKS).to(tl.int64)
    n = tl.load(p_lengths + b)
    o_member = tl.program_id(1) % CHUNKS * HEADS + tl.arange(0, HEADS)
    m_member = o_member < GROUP
    o_head = b * H + g * GROUP + tl.minimum(o_member, GROUP - 1)
    b_correction, b_factor = tl.load(p_corrections + o_head), tl.load(p_factors + o_head)
    b_peak = tl.full([HEADS], -float("inf"), tl.float32)
    b_total = tl.zeros([HEADS], tl.float32)

    # All tiles have two dimensions from the start, so that the compiler finds one layout for all of them.
    o_tile, o_query = tl.arange(0, TILE)[None, :], o_head[:, None] * (W * FIELDS)
    start = part * part_tokens(n)
    for first in range(start, tl.minimum(start + part_tokens(n), n), TILE):
        o_block = first // 64 + o_tile // 64
        m_block = o_block < blocks
        p_token = p_words + (g * blocks + o_block) * (W * 64) + o_tile % 64
        b_sum = tl.zeros([HEADS, TILE], tl.int32)
        b_scale = tl.load(p_scales + (g * blocks + o_block) * 64 + o_tile % 64, mask=m_block, other=0.0)
        b_words = words_from(p_token, m_block, 0, W)
        for start_w in tl.static_range(0, W, AHEAD):
            b_later = words_from(p_token, m_block, start_w + AHEAD, W)
            tl.debug_barrier()  # or the assembler asks for each word where it is needed, and waits for memory there
            for w in tl.static_range(start_w, min(start_w + AHEAD, W)):
                for f in tl.static_range(FIELDS):
                    b_query = tl.load(p_queries + o_query + w * FIELDS + f)
                    b_sum = multiply_bytes((b_words[w - start_w] >> (BITS * f)) & MASK, b_query, b_sum)
            b_words = b_later
        b_score = (2 * b_sum - b_correction[:, None]).to(tl.float32) * (b_scale.to(tl.float32) * b_factor[:, None])
        b_score = tl.where(first + o_tile < n, b_score, -float("inf"))
        tl.store(p_scores + o_head[:, None] * stride + first + o_tile, b_score, mask=m_member[:, None])
        b_new = tl.maximum(b_peak, tl.max(b_score, 1))
        b_total = b_total * tl.exp2(b_peak - b_new) + tl.sum(tl.exp2(b_score - b_new[:, None]), 1)
        b_peak = b_new

    tl.store(p_peaks + o_head * MOST_PARTS + part, b_peak, mask=m_member)
    tl.store(p_sums + o_head * MOST_PARTS + part, b_total, mask=m_member)
