"""scan_sample in Numba: heads are estimated, then rows drawn, a task each; codes are multiplied as float32 numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit, prange

from truffle.kernels.codes import Codes
from truffle.kernels.contract import Needs
from truffle.kernels.handles import expect_whole_codes
from truffle.kernels.numba_math import exp_below_one
from truffle.kernels.numba_philox import random_block
from truffle.kernels.numba_support import FUSE, REORDER, array_at, launching, widen
from truffle.kernels.registry import implements
from truffle.kernels.scanning import LARGEST_CODE, LARGEST_QUERY, LOWEST

LANES = 64
F = np.float32
WORDS, HALVES = np.empty(0, np.uint32), np.empty(0, np.uint16)
MOST_STEPS = 64
PRIORITY = {"poisson": False, "priority": True}


@implements("scan_sample", "cpu_numba", Needs(packages=("numba",)))
def scan_sample(
    q: torch.Tensor,
    codes: Sequence[Codes],
    lengths: torch.Tensor,
    wanted: torch.Tensor,
    floor: torch.Tensor,
    step: torch.Tensor,
    ids: torch.Tensor,
    count: torch.Tensor,
    log_weight: torch.Tensor,
    *,
    scale: float,
    seed: int = 0,
    layer: int = 0,
    draw: str = "poisson",
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    described = np.array([_described(held, n) for held, n in zip(codes, lengths.tolist(), strict=True)], np.int64)
    bits, R = codes[0].bits, wanted.shape[1]
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)
    held, factors = _quantised(q.numpy(), F(scale))
    weights = np.empty((q.shape[0], q.shape[1], -(-max(described[:, 2]) // LANES) * LANES), np.float32)
    outputs = ids.numpy(), count.numpy(), log_weight.numpy()
    with launching(threads):
        _estimate(held, factors, described, bits, R, weights)
        _draw(weights, described, wanted.numpy(), floor.numpy(), step.numpy(), key, layer, PRIORITY[draw], *outputs)


def _described(codes: Codes, n: int) -> tuple[int, ...]:
    expect_whole_codes(codes, "codes")
    Hkv, blocks, W, _ = codes.words.shape
    return codes.words.data_ptr(), codes.scales.data_ptr(), n, Hkv, blocks, W


@njit(cache=True, error_model="numpy")
def _quantised(q, scale):
    """Whole numbers [B, H, d] for queries, as float32, and what turns products with levels into scores, [B, H]."""
    codes, factors = np.zeros_like(q), np.zeros(q.shape[:2], np.float32)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            largest = np.abs(q[b, h]).max()
            if np.all(np.abs(q[b, h]) <= F(LARGEST_QUERY)) and largest > F(0):
                codes[b, h] = np.round(q[b, h] * (F(LARGEST_CODE) / largest))
                factors[b, h] = largest / F(LARGEST_CODE) * scale
    return codes, factors


@njit(parallel=True, nogil=True, cache=True)
def _estimate(queries, factors, described, bits, R, weights):
    """Proposals of each row, in the place of its first head."""
    B, H, _ = queries.shape
    most = described[:, 3].max()
    for task in prange(B * most):
        b, g = task // most, task % most
        words_at, scales_at, n, Hkv, blocks, W = described[b]
        if g < Hkv and n > 0:
            group = H // Hkv
            words = array_at(words_at, Hkv * blocks * W * LANES, WORDS)[g * blocks * W * LANES :]
            scales = array_at(scales_at, Hkv * blocks * LANES, HALVES)[g * blocks * LANES :]
            mine = slice(g * group, (g + 1) * group)
            _score(queries[b, mine], factors[b, mine], words, scales, n, W, bits, weights[b, mine])
            for h in range(g * group, (g + 1) * group):
                _weigh(weights[b, h], n)
            heads = H // R
            for h in range(g * group, (g + 1) * group):
                if h % heads:
                    weights[b, h // heads * heads] += weights[b, h]


@njit
def _score(q, factors, words, scales, n, W, bits, scores):
    """Estimated scores [group, n] of one key/value head's tokens."""
    group, d = q.shape
    middle = F((1 << bits) - 1)
    level = np.empty(LANES, np.float32)
    for block in range((n + LANES - 1) // LANES):
        sums = np.zeros((group, LANES), np.float32)
        for k in range(d):
            place = k % (32 // bits)
            shift = np.uint32(8 * (place % 4) + bits * (place // 4))
            row = words[(block * W + k // (32 // bits)) * LANES :]
            for i in range(LANES):
                level[i] = F(2) * F(np.int32((row[i] >> shift) & np.uint32((1 << bits) - 1))) - middle
            for h in range(group):
                _add(q[h, k], level, sums[h])
        for h in range(group):
            to = scores[h, block * LANES :]
            for i in range(LANES):
                to[i] = sums[h, i] * (widen(scales[block * LANES + i]) * factors[h])


@njit(fastmath=FUSE)
def _add(weight, x, to):
    for i in range(LANES):
        to[i] += weight * x[i]


@njit(fastmath=REORDER)
def _weigh(scores, n):
    """Scores become attention weights, none less than e^-40 of the largest; zero behind the last."""
    highest = F(-3e38)
    for i in range(n):
        highest = max(highest, scores[i])
    total = F(0)
    for i in range(n):
        scores[i] = exp_below_one(max(scores[i] - highest, F(LOWEST)))
        total += scores[i]
    shrink = F(1) / total
    for i in range(n):
        scores[i] *= shrink
    scores[n:] = F(0)


@njit(parallel=True, nogil=True, cache=True)
def _draw(weights, described, wanted, floor, step, key, layer, priority, ids, count, log_weight):
    (B, R), H = wanted.shape, weights.shape[1]
    for row in prange(B * R):
        b, r = row // R, row % R
        n, heads = described[b, 2], H // R
        counter = np.array([r, step[b], layer], np.int64).astype(np.uint32)
        mine = weights[b, r * heads]
        if priority:
            cut = _priority_cut(mine, n, heads, wanted[b, r], floor[b], key, counter)
        else:
            cut = _poisson_cut(mine, n, heads, wanted[b, r], floor[b])
        count[row] = _drawn(mine, n, cut, priority, key, counter, ids[row], log_weight[row])


@njit
def _poisson_cut(weights, n, heads, wanted, floor):
    """Newton from below on sum min(1, c w) = wanted, which is concave and piecewise linear in c."""
    if wanted >= n:
        return F(3e38), F(0), F(0)
    c = wanted / F(heads)
    for _ in range(MOST_STEPS):
        certain, rest = _share(weights[:n], c)
        better = F((wanted - certain) / rest)
        if not better > c * F(1 + 1e-6):
            break
        c = better
    return c, min(F(1), floor / F(n)), F(0)


@njit(fastmath=REORDER)
def _share(weights, c):
    certain, rest = 0, 0.0
    for i in range(len(weights)):
        high = weights[i] * c >= F(1)
        certain += high
        rest += 0.0 if high else weights[i]
    return certain, rest


@njit(error_model="numpy")
def _priority_cut(weights, n, heads, wanted, floor, key, counter):
    """From the (k + 1)-th largest of weight / u."""
    k = int(np.round(wanted))
    if k >= n or k == 0:
        return F(3e38 if k >= n else 0), F(0), F(0 if k >= n else 3e38)
    least = F(heads) * floor / (F(n) * F(k))
    lifted, x = np.empty(len(weights), np.float32), np.empty(LANES, np.int32)
    for block in range(0, n, LANES):
        random_block(key, counter, block // 4, x)
        for i in range(LANES):
            lifted[block + i] = max(weights[block + i], least) / _uniform(x[i])
    threshold = np.sort(lifted[:n])[n - 1 - k]
    return F(1) / threshold, least, threshold


@njit
def _uniform(x):
    return (F(x) + F(0.5)) * F(2**-31)


@njit(error_model="numpy")
def _drawn(weights, n, cut, priority, key, counter, ids, log_weight):
    """Draw a row's sample into ids and log_weight; returns its size."""
    multiplier, least, threshold = cut
    count, x = 0, np.empty(LANES, np.int32)
    ratios, inside = np.empty(LANES, np.float32), np.empty(LANES, np.bool_)
    for block in range(0, n, LANES):
        random_block(key, counter, block // 4, x)
        for i in range(LANES):
            weight = weights[block + i]
            if priority:
                ratios[i] = max(weight, least) * multiplier
                inside[i] = max(weight, least) / _uniform(x[i]) > threshold
            else:
                ratio = max(weight * multiplier, least)
                limit = np.int32((ratio if ratio < F(1) else F(0)) * F(2**31))
                ratios[i], inside[i] = ratio, x[i] < limit or ratio >= F(1)
        for i in range(min(LANES, n - block)):
            if inside[i] and count < len(ids):
                ids[count], log_weight[count] = block + i, np.log(min(ratios[i], F(1)))
                count += 1
    return count
