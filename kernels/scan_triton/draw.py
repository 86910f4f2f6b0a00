"""Draws of the scan in Triton: parts count what they draw, then draw it again to where it belongs."""

# pyright: reportArgumentType=false, reportOperatorIssue=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl

from truffle.kernels.scan_triton.parts import MOST_PARTS, part_tokens, parts_of
from truffle.kernels.scan_triton.propose import CANDIDATES, multiplier

SEEDED = ["seed", "layer"]
UNIT = tl.constexpr(2.0**31)


def tiling() -> dict:
    """Constants of the kernels here."""
    return {"TILE": 1024, "num_warps": 4}


@triton.jit
def random_bits(first, r, step, layer, seed, TILE: tl.constexpr):
    """31 random bits for each of TILE tokens from `first` on, a multiple of 64: Philox-4x32-10, int32."""
    o_counter = first // 4 + tl.arange(0, TILE // 4)
    b_0, b_1, b_2, b_3 = tl.philox(seed, o_counter, r, step, layer)
    b_even, b_odd = tl.join(b_0, b_2), tl.join(b_1, b_3)
    b_word = tl.reshape(tl.join(b_even, b_odd), [TILE // 64, 16, 2, 2])  # of words 2 q + p at [q, p]
    return tl.reshape(tl.permute(b_word, (0, 2, 3, 1)) >> 1, [TILE]).to(tl.int32)


@triton.jit
def uniform(b_bits):
    """Numbers in (0, 1)."""
    return (b_bits.to(tl.float32) + 0.5) / UNIT


@triton.jit
def drawn(
    p_proposal, cut, least, threshold, n, first, r, step, layer, seed, PRIORITY: tl.constexpr, TILE: tl.constexpr
):
    """Ratios of TILE tokens from `first` on, and which of them are drawn."""
    o_tile = tl.arange(0, TILE)
    b_proposal = tl.load(p_proposal + first + o_tile)
    b_bits = random_bits(first, r, step, layer, seed, TILE)
    if PRIORITY:
        b_lifted = tl.maximum(b_proposal, least)
        b_ratio, b_in = b_lifted * cut, b_lifted / uniform(b_bits) > threshold
    else:
        b_ratio = tl.maximum(b_proposal * cut, least)
        b_limit = (tl.where(b_ratio < 1.0, b_ratio, 0.0) * UNIT).to(tl.int32)
        b_in = (b_ratio >= 1.0) | (b_bits < b_limit)
    return b_ratio, b_in & (first + o_tile < n)


@triton.jit(do_not_specialize=SEEDED)
def lift(
    p_proposals,  # [B, R, stride]
    p_cuts,  # [3, B, R]
    p_lengths,  # [B]
    p_step,  # [B]
    p_lifted,  # [B, R, stride]
    seed,
    layer,
    stride,
    TILE: tl.constexpr,
):
    part, r, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row, rows = (b * tl.num_programs(1) + r).to(tl.int64), tl.num_programs(1) * tl.num_programs(2)
    n, step, least = tl.load(p_lengths + b), tl.load(p_step + b), tl.load(p_cuts + rows + row)
    o_tile, start = tl.arange(0, TILE), part * part_tokens(n)
    for first in range(start, tl.minimum(start + part_tokens(n), n), TILE):
        b_lifted = tl.maximum(tl.load(p_proposals + row * stride + first + o_tile), least)
        b_lifted /= uniform(random_bits(first, r, step, layer, seed, TILE))
        tl.store(p_lifted + row * stride + first + o_tile, b_lifted)


@triton.jit(do_not_specialize=SEEDED)
def count_drawn(
    p_proposals,  # [B, R, stride]
    p_cuts,  # [3, B, R]
    p_lengths,  # [B]
    p_step,  # [B]
    p_wanted,  # [B, R]
    p_floor,  # [B]
    p_certain,  # [B, R, MOST_PARTS, CANDIDATES]
    p_rest,  # [B, R, MOST_PARTS, CANDIDATES]
    p_counts,  # [B, R, MOST_PARTS]
    seed,
    layer,
    stride,
    PRIORITY: tl.constexpr,
    TILE: tl.constexpr,
):
    part, r, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row, rows = (b * tl.num_programs(1) + r).to(tl.int64), tl.num_programs(1) * tl.num_programs(2)
    n, step = tl.load(p_lengths + b), tl.load(p_step + b)
    if PRIORITY:
        cut, least, threshold = tl.load(p_cuts + row), tl.load(p_cuts + rows + row), tl.load(p_cuts + 2 * rows + row)
    else:
        o_found = row * MOST_PARTS * CANDIDATES
        cut, threshold = multiplier(p_certain + o_found, p_rest + o_found, tl.load(p_wanted + row), n), 0.0
        least = tl.minimum(tl.where(n > 0, tl.load(p_floor + b) / n, 0.0), 1.0)
        if part == 0:
            tl.store(p_cuts + row, cut)
            tl.store(p_cuts + rows + row, least)
    start, count, p_proposal = part * part_tokens(n), 0, p_proposals + row * stride
    for first in range(start, tl.minimum(start + part_tokens(n), n), TILE):
        _, b_in = drawn(p_proposal, cut, least, threshold, n, first, r, step, layer, seed, PRIORITY, TILE)
        count += tl.sum(b_in.to(tl.int32), 0)
    tl.store(p_counts + row * MOST_PARTS + part, count)


@triton.jit(do_not_specialize=SEEDED)
def write_drawn(
    p_proposals,  # [B, R, stride]
    p_cuts,  # [3, B, R]
    p_lengths,  # [B]
    p_step,  # [B]
    p_counts,  # [B, R, MOST_PARTS]
    p_ids,  # [B * R, capacity]
    p_log_weight,  # [B * R, capacity]
    p_count,  # [B * R]
    seed,
    layer,
    stride,
    capacity,
    PRIORITY: tl.constexpr,
    TILE: tl.constexpr,
):
    part, r, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row, rows = (b * tl.num_programs(1) + r).to(tl.int64), tl.num_programs(1) * tl.num_programs(2)
    n, step = tl.load(p_lengths + b), tl.load(p_step + b)
    o_tile, o_part = tl.arange(0, TILE), tl.arange(0, MOST_PARTS)
    b_count = tl.load(p_counts + row * MOST_PARTS + o_part, mask=o_part < parts_of(n), other=0)
    place = tl.sum(tl.where(o_part < part, b_count, 0), 0)
    if part == 0:
        tl.store(p_count + row, tl.minimum(tl.sum(b_count, 0), capacity))
    cut, least = tl.load(p_cuts + row), tl.load(p_cuts + rows + row)
    threshold = tl.load(p_cuts + 2 * rows + row) if PRIORITY else 0.0
    start, p_proposal = part * part_tokens(n), p_proposals + row * stride
    for first in range(start, tl.minimum(start + part_tokens(n), n), TILE):
        b_ratio, b_in = drawn(p_proposal, cut, least, threshold, n, first, r, step, layer, seed, PRIORITY, TILE)
        b_place = place + tl.cumsum(b_in.to(tl.int32), 0) - 1
        m_kept = b_in & (b_place < capacity)
        tl.store(p_ids + row * capacity + b_place, first + o_tile, mask=m_kept)
        tl.store(p_log_weight + row * capacity + b_place, tl.log(tl.minimum(b_ratio, 1.0)), mask=m_kept)
        place += tl.sum(b_in.to(tl.int32), 0)
