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
    K = margins.shape[2]
    for row in prange(len(log_u)):
        exactly = np.zeros((min_hits + 1, KNOTS), np.float32)  # Pr(so many hits so far); the last: or more
        exactly[0] = ONE
        bits, below = np.empty((3, K, KNOTS), np.float32), np.ones((len(sets), KNOTS), np.float32)
        for table in range(margins.shape[1]):
            order, reach, chosen = _plan(margins[row, table], codes[row, table], sets)
            hit = _all_agree(reach[order], tails, bits[0], bits[1], bits[2])
            _add_sets(chosen, sets, bits[0], bits[1], bits[2], below, hit)
            _count(hit, exactly)
        upper, lower = exactly[min_hits, :HALF_KNOTS], exactly[min_hits, HALF_KNOTS:]
        ascending = np.concatenate((lower[::-1], upper))
        knots = np.log(np.maximum(ascending, np.float32(np.exp(LEAST_LOG_U))))
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
    order = _ascending(reach)
    score, flips = np.zeros(S, np.float32), np.zeros(S, np.int64)
    for s in range(1, S):
        bit = order[sets[s, 2]]
        score[s] = score[sets[s, 1]] + reach[bit] * reach[bit]
        flips[s] = flips[sets[s, 1]] | (1 << bit)
    chosen = _ascending(score)[: len(codes)]
    for p in range(len(codes)):
        codes[p] = own ^ flips[chosen[p]]
    return order, reach, chosen


@njit
def _ascending(values):
    """The order of a few values, the earlier of equals first: insertion beats a general sort."""
    order = np.empty(len(values), np.int32)
    for i in range(len(values)):
        place = i
        while place > 0 and values[order[place - 1]] > values[i]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = i
    return order


@njit(fastmath=FUSE)
def _all_agree(reach, tails, differs, agrees, ending):
    """Fill Pr(bit k differs), Pr(it agrees), Pr(it differs and all above agree), [K, KNOTS]; return Pr(all agree).

    Knots above an even agreement come first, then those below it, each from the nearest on.
    """
    above = np.ones(KNOTS, np.float32)
    for k in range(len(reach) - 1, -1, -1):
        place = min(reach[k], np.float32(MOST_MARGIN)) * np.float32(STEPS_A_UNIT)
        row = np.int32(place)
        step, low, high, far, near = place - np.float32(row), tails[row], tails[row + 1], differs[k], agrees[k]
        for i in range(HALF_KNOTS):
            rarer = low[i] + step * (high[i] - low[i])
            far[i], near[i] = rarer, ONE - rarer
            far[i + HALF_KNOTS], near[i + HALF_KNOTS] = ONE - rarer, rarer
        last = ending[k]
        for i in range(KNOTS):
            last[i] = far[i] * above[i]
            above[i] *= near[i]
    return above


@njit(fastmath=FUSE)
def _add_sets(chosen, sets, differs, agrees, ending, below, hit):
    """Add to `hit` what the sets but the empty one hold: see the C++ kernel."""
    for p in range(1, len(chosen)):
        s = chosen[p]
        parent, rest, top = sets[s]
        own, last = below[s], ending[top]
        if parent > 0:
            bit, before = sets[parent, 2], below[parent]
            factor = differs[bit] if rest == parent else agrees[bit]
            for i in range(KNOTS):
                own[i] = before[i] * factor[i]
        for i in range(KNOTS):
            hit[i] += own[i] * last[i]


@njit(fastmath=FUSE)
def _count(hit, exactly):
    """Let one more table hit or miss at every knot."""
    most = len(exactly) - 1
    for i in range(KNOTS):
        hit[i] = min(hit[i], ONE)
    for j in range(most, 0, -1):
        now, fewer = exactly[j], exactly[j - 1]
        for i in range(KNOTS):
            stays = ONE if j == most else ONE - hit[i]
            now[i] = now[i] * stays + fewer[i] * hit[i]
    none = exactly[0]
    for i in range(KNOTS):
        none[i] *= ONE - hit[i]


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
