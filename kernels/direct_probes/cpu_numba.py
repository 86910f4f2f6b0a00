"""direct_probes in Numba: the law at 64 agreements in the lanes, interpolated, as the C++ kernel computes it."""

import numpy as np
import torch
from numba import njit, prange

from truffle.kernels.contract import Needs
from truffle.kernels.directed import LEAST_LOG_U, MOST_MARGIN
from truffle.kernels.law_knots import HALF_KNOTS, STENCIL, STEPS_A_UNIT, law_knots
from truffle.kernels.numba_support import FUSE, launching
from truffle.kernels.probe_sets import probe_sets
from truffle.kernels.registry import implements

FARTHEST = np.float32(1e9)  # what a margin that is no number counts as; its square is finite
ONE = np.float32(1)
KNOTS = 2 * HALF_KNOTS


@implements("direct_probes", "cpu_numba", Needs(packages=("numba",)))
def direct_probes(
    margins: torch.Tensor,
    query_codes: torch.Tensor,
    log_u: torch.Tensor,
    *,
    min_hits: int = 2,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    knots, sets = law_knots(), probe_sets(margins.shape[3], query_codes.shape[3])
    rows = margins.flatten(0, 1).numpy(), query_codes.flatten(0, 1).numpy()
    with launching(threads):
        _direct(*rows, log_u.numpy(), min_hits, sets, knots.tails, knots.weights)


@njit(parallel=True, nogil=True, cache=True)
def _direct(margins, codes, log_u, min_hits, sets, tails, weights):
    for row in prange(len(log_u)):
        exactly = np.zeros((min_hits + 1, KNOTS), np.float32)  # Pr(so many hits so far); the last: or more
        exactly[0] = ONE
        for table in range(margins.shape[1]):
            order, reach, chosen = _plan(margins[row, table], codes[row, table], sets)
            _count_hits(reach[order], chosen, sets, tails, exactly)
        knots = np.log(np.maximum(exactly[min_hits], np.float32(np.exp(LEAST_LOG_U))))
        _interpolate(np.minimum(knots, np.float32(0)), weights, log_u[row])


@njit
def _plan(margins, codes, sets):
    """Write a table's codes; bits in ascending order of their margins, the margins, and the sets probed."""
    K, S = len(margins), len(sets)
    reach, own = np.full(K, FARTHEST, np.float32), 0
    for k in range(K):
        if np.abs(margins[k]) < FARTHEST:
            reach[k] = np.abs(margins[k])
        own |= (1 << k) if margins[k] > 0 else 0
    order = np.argsort(reach, kind="mergesort")
    score, flips = np.zeros(S, np.float32), np.zeros(S, np.int64)
    for s in range(1, S):
        bit = order[sets[s, 2]]
        score[s] = score[sets[s, 1]] + reach[bit] * reach[bit]
        flips[s] = flips[sets[s, 1]] | (1 << bit)
    chosen = np.argsort(score, kind="mergesort")[: len(codes)]
    for p in range(len(codes)):
        codes[p] = own ^ flips[chosen[p]]
    return order, reach, chosen


@njit
def _count_hits(reach, chosen, sets, tails, exactly):
    """Let one table hit or miss at every knot; `reach` ascends."""
    hits = len(exactly) - 1
    differs, agrees, ending, above = _bits(reach, tails)
    below = np.ones((len(sets), KNOTS), np.float32)
    hit = above.copy()
    for p in range(1, len(chosen)):
        s = chosen[p]
        parent, rest, top = sets[s]
        if parent > 0:
            factor = differs[sets[parent, 2]] if rest == parent else agrees[sets[parent, 2]]
            for i in range(KNOTS):
                below[s, i] = below[parent, i] * factor[i]
        for i in range(KNOTS):
            hit[i] += below[s, i] * ending[top, i]
    for i in range(KNOTS):
        h = min(hit[i], ONE)
        exactly[hits, i] += exactly[hits - 1, i] * h
        for j in range(hits - 1, 0, -1):
            exactly[j, i] = exactly[j, i] * (ONE - h) + exactly[j - 1, i] * h
        exactly[0, i] *= ONE - h


@njit(fastmath=FUSE)
def _bits(reach, tails):
    """Pr(bit k differs), Pr(it agrees), Pr(it differs and all above agree), [K, KNOTS]; Pr(all agree), [KNOTS]."""
    K = len(reach)
    differs, agrees = np.empty((K, KNOTS), np.float32), np.empty((K, KNOTS), np.float32)
    ending, above = np.empty((K, KNOTS), np.float32), np.ones(KNOTS, np.float32)
    for k in range(K - 1, -1, -1):
        place = min(reach[k], np.float32(MOST_MARGIN)) * np.float32(STEPS_A_UNIT)
        row = np.int32(place)
        step, low, high = place - np.float32(row), tails[row], tails[row + 1]
        for i in range(HALF_KNOTS):
            rarer = low[i] + step * (high[i] - low[i])
            far, near = HALF_KNOTS - 1 - i, HALF_KNOTS + i
            differs[k, near] = agrees[k, far] = rarer
            differs[k, far] = agrees[k, near] = ONE - rarer
        for i in range(KNOTS):
            ending[k, i] = differs[k, i] * above[i]
            above[i] *= agrees[k, i]
    return differs, agrees, ending, above


@njit(fastmath=FUSE)
def _interpolate(knots, weights, cells):
    """ln u in every cell; held beyond the outermost knots."""
    span = weights.shape[1]
    held = np.empty(KNOTS + 2 * STENCIL, np.float32)
    held[:STENCIL], held[STENCIL:-STENCIL], held[-STENCIL:] = knots[0], knots, knots[-1]
    cells[: span // 2], cells[-span // 2 - 1 :] = knots[0], knots[-1]
    for k in range(KNOTS - 1):
        part = cells[span // 2 + k * span : span // 2 + (k + 1) * span]
        part[:] = 0
        for j in range(STENCIL):
            value, weight = held[STENCIL + k + j - (STENCIL // 2 - 1)], weights[j]
            for i in range(span):
                part[i] += weight[i] * value
        for i in range(span):
            part[i] = min(part[i], np.float32(0))
