"""Proposals of the scan and the multiplier that makes probabilities of them, in Triton.

The multiplier c solves sum min(1, c W) = wanted. For any c' the line #{c' W >= 1} + c sum_{c' W < 1} W lies above that
sum and touches it at c', so that it meets `wanted` at c or below, and the best of many such lines is as near to c as
the nearest c' allow, exact where W has no more than one of its corners between two of them. Counts of W by size, an
eighth of a factor of two apart, say where c is; lines at sixteen c' there leave an error of 1e-4 where W is smooth.
"""

# pyright: reportArgumentType=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportCallIssue=false

import triton
import triton.language as tl

from truffle.kernels import scan_scratch, scanning
from truffle.kernels.scan_triton.parts import MOST_PARTS, part_tokens, parts_of

BINS = tl.constexpr(scan_scratch.BINS)
LOWEST_BIN = tl.constexpr(scan_scratch.LOWEST_BIN)
FRACTION_BITS = tl.constexpr(scan_scratch.FRACTION_BITS)
WIDTH = tl.constexpr(1 + 1 / scan_scratch.BIN_STEPS)  # of a bin, at most
CANDIDATES = tl.constexpr(scan_scratch.CANDIDATES)
LOWEST = tl.constexpr(scanning.LOWEST * 1.4426950408889634)


def propose_tiling(heads: int) -> dict:
    """Constants of `propose` for rows of as many heads."""
    return {"HEADS": heads, "TOGETHER": min(4, triton.next_power_of_2(heads)), "TILE": 1024, "num_warps": 4}


@triton.jit
def propose(
    p_scores,  # [B, H, stride]
    p_peaks,  # [B, H, MOST_PARTS]
    p_sums,  # [B, H, MOST_PARTS]
    p_lengths,  # [B]
    p_proposals,  # [B, R, stride]
    p_bins,  # [B, R, BINS]
    stride,
    HEADS: tl.constexpr,
    TOGETHER: tl.constexpr,
    TILE: tl.constexpr,
):
    part, b = tl.program_id(0), tl.program_id(2)
    row = (b * tl.num_programs(1) + tl.program_id(1)).to(tl.int64)
    n = tl.load(p_lengths + b)
    o_tile, o_part = tl.arange(0, TILE), tl.arange(0, MOST_PARTS)
    start = part * part_tokens(n)
    for first in range(start, tl.minimum(start + part_tokens(n), n), TILE):
        m_token = first + o_tile < n
        b_proposal = tl.zeros([TILE], tl.float32)
        for h in tl.static_range(0, HEADS, TOGETHER):
            o_member = h + tl.arange(0, TOGETHER)
            o_head = row * HEADS + tl.minimum(o_member, HEADS - 1)
            o_found, m_part = o_head[:, None] * MOST_PARTS + o_part, o_part < parts_of(n)
            b_peak = tl.load(p_peaks + o_found, mask=m_part, other=-float("inf"))
            b_sum = tl.load(p_sums + o_found, mask=m_part, other=0.0)
            b_highest = tl.max(b_peak, 1)
            b_total = tl.sum(b_sum * tl.exp2(b_peak - b_highest[:, None]), 1)
            b_share = tl.where(o_member < HEADS, 1.0, 0.0) / b_total
            b_below = tl.load(p_scores + o_head[:, None] * stride + first + o_tile) - b_highest[:, None]
            b_proposal += tl.sum(tl.exp2(tl.maximum(b_below, LOWEST)) * b_share[:, None], 0)
        b_proposal = tl.where(m_token, b_proposal, 0.0)
        tl.store(p_proposals + row * stride + first + o_tile, b_proposal)
        b_bin = (b_proposal.to(tl.int32, bitcast=True) >> FRACTION_BITS) - LOWEST_BIN
        b_count = tl.histogram(tl.minimum(tl.maximum(b_bin, 0), BINS - 1), BINS, mask=m_token)
        tl.atomic_add(p_bins + row * BINS + tl.arange(0, BINS), b_count, mask=b_count > 0, sem="relaxed")


@triton.jit
def best(b_certain, b_rest, wanted):
    """The largest c at which a line of these reaches `wanted`."""
    b_meets = (wanted - b_certain) / tl.where(b_rest > 0, b_rest, 1.0)
    return tl.max(tl.where((b_rest > 0) & (b_certain <= wanted), b_meets, 0.0), 0)


@triton.jit
def candidates(p_bins, wanted, n):
    """Multipliers around the one looked for, [CANDIDATES], by counts p_bins [BINS]."""
    o_bin = tl.arange(0, BINS)
    b_count = tl.load(p_bins + o_bin)
    b_edge = ((o_bin + LOWEST_BIN) << FRACTION_BITS).to(tl.float32, bitcast=True)
    b_certain = (n - (tl.cumsum(b_count, 0) - b_count)).to(tl.float32)
    b_weight = b_count.to(tl.float32) * b_edge
    highest = best(b_certain, tl.cumsum(b_weight, 0) - b_weight, wanted)  # as every proposal is an edge or more
    lowest = highest * (0.999 / WIDTH)
    return lowest + (highest - lowest) * (tl.arange(0, CANDIDATES) * (1.0 / (CANDIDATES - 1)))


def try_tiling() -> dict:
    """Constants of `try_candidates`."""
    return {"TILE": 512, "num_warps": 4}


@triton.jit
def try_candidates(
    p_proposals,  # [B, R, stride]
    p_bins,  # [B, R, BINS]
    p_wanted,  # [B, R]
    p_lengths,  # [B]
    p_certain,  # [B, R, MOST_PARTS, CANDIDATES]
    p_rest,  # [B, R, MOST_PARTS, CANDIDATES]
    stride,
    TILE: tl.constexpr,
):
    part, b = tl.program_id(0), tl.program_id(2)
    row = (b * tl.num_programs(1) + tl.program_id(1)).to(tl.int64)
    n = tl.load(p_lengths + b)
    b_candidate = candidates(p_bins + row * BINS, tl.load(p_wanted + row), n)
    b_certain, b_rest = tl.zeros([CANDIDATES], tl.float32), tl.zeros([CANDIDATES], tl.float32)
    o_tile, start = tl.arange(0, TILE), part * part_tokens(n)
    for first in range(start, tl.minimum(start + part_tokens(n), n), TILE):
        b_proposal = tl.load(p_proposals + row * stride + first + o_tile)[:, None]
        b_high = b_proposal * b_candidate >= 1.0
        b_certain += tl.sum(b_high.to(tl.float32), 0)
        b_rest += tl.sum(tl.where(b_high, 0.0, b_proposal), 0)
    o_found = (row * MOST_PARTS + part) * CANDIDATES + tl.arange(0, CANDIDATES)
    tl.store(p_certain + o_found, b_certain)
    tl.store(p_rest + o_found, b_rest)


@triton.jit
def multiplier(p_certain, p_rest, wanted, n):
    """The multiplier of a row, by what parts found, [MOST_PARTS, CANDIDATES]."""
    o_part, o_candidate = tl.arange(0, MOST_PARTS)[:, None], tl.arange(0, CANDIDATES)
    o_found, m_found = o_part * CANDIDATES + o_candidate, o_part < parts_of(n)
    b_certain = tl.sum(tl.load(p_certain + o_found, mask=m_found, other=0.0), 0)
    b_rest = tl.sum(tl.load(p_rest + o_found, mask=m_found, other=0.0), 0)
    return tl.where(wanted < n, best(b_certain, b_rest, wanted), 3e38)
