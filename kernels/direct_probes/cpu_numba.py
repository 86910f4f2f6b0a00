"""direct_probes in Numba: the law at 64 agreements, 32 of them side by side, interpolated as in the C++ kernel."""

import numpy as np
import torch
from numba import njit, prange

from truffle.kernels.contract import Needs
from truffle.kernels.directed import LEAST_LOG_U, MOST_MARGIN
from truffle.kernels.law_knots import HALF_KNOTS, STENCIL, STEPS_A_UNIT, law_knots
from truffle.kernels.numba_probes import plan
from truffle.kernels.numba_support import FUSE, launching
from truffle.kernels.probe_sets import probe_sets
from truffle.kernels.registry import implements

ZERO, ONE, LOWEST_U = np.float32(0), np.float32(1), np.float32(np.exp(LEAST_LOG_U))
HIGHEST, STEPS = np.float32(MOST_MARGIN * STEPS_A_UNIT), np.float32(STEPS_A_UNIT)
KNOTS = 2 * HALF_KNOTS  # those above an even agreement come first, then those below, each from the nearest on

# The law's rows lie in one dimension and are indexed without signs: a view of a row costs as much as its arithmetic,
# and so does looking whether an index counts from the end.
HALF, BOTH = np.uintp(HALF_KNOTS), np.uintp(KNOTS)


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
        _direct(*rows, log_u.numpy(), min_hits, sets, knots.tails.ravel(), knots.weights)


@njit(parallel=True, nogil=True, cache=True)
def _direct(margins, codes, log_u, min_hits, sets, tails, weights):
    _, L, K = margins.shape
    for row in prange(len(log_u)):
        reach, flippable = np.empty((L, K), np.float32), np.empty(L, np.int32)
        chosen = np.empty((L, codes.shape[2]), np.int32)
        plan(margins, row, sets, reach, chosen, flippable, codes)
        knots = np.log(np.maximum(_law(reach, chosen, flippable, min_hits, sets, tails), LOWEST_U))
        _interpolate(np.minimum(knots, ZERO), weights, log_u[row])


@njit
def _law(reach, chosen, flippable, min_hits, sets, tails):
    """u at the knots, in ascending order of the agreement."""
    L, K = reach.shape
    exactly = np.zeros((min_hits + 1) * KNOTS, np.float32)  # Pr(so many hits so far); the last: or more
    exactly[:KNOTS] = ONE
    bits, below = np.empty(K * 2 * KNOTS, np.float32), np.ones(len(sets) * KNOTS, np.float32)
    above, hit = np.empty(KNOTS, np.float32), np.empty(KNOTS, np.float32)
    for table in range(L):
        _agree(reach, table, flippable[table], tails, above)
        _split(reach, table, flippable[table], tails, bits, above)
        _hits(chosen, table, sets, bits, above, below, hit)
        _count(hit, min_hits, exactly)
    reached = exactly[min_hits * KNOTS :]
    return np.concatenate((reached[HALF_KNOTS:][::-1], reached[:HALF_KNOTS]))


@njit(fastmath=FUSE)
def _place(reach):
    """Where in the tails a margin's row begins, and how far it is to the next."""
    place = min(reach * STEPS, HIGHEST)
    whole = np.int32(place)
    return np.uintp(whole) * HALF, place - np.float32(whole)


@njit(fastmath=FUSE)
def _agree(reach, table, first, tails, above):
    """Pr(the bits from `first` on, which no set flips, agree), two at a time."""
    K = reach.shape[1]
    for i in range(BOTH):
        above[i] = ONE
    for k in range(first, K - 1, 2):
        (a, s), (b, t) = _place(reach[table, k]), _place(reach[table, k + 1])
        for i in range(HALF):
            x = tails[a + i] + s * (tails[a + i + HALF] - tails[a + i])
            y = tails[b + i] + t * (tails[b + i + HALF] - tails[b + i])
            above[i] *= (ONE - x) * (ONE - y)
            above[i + HALF] *= x * y
    if (K - first) % 2:
        a, s = _place(reach[table, K - 1])
        for i in range(HALF):
            x = tails[a + i] + s * (tails[a + i + HALF] - tails[a + i])
            above[i] *= ONE - x
            above[i + HALF] *= x


@njit(fastmath=FUSE)
def _split(reach, table, flippable, tails, bits, above):
    """Fill four halves a bit: the rarer event, the likelier, and Pr(it differs and all above agree) at all knots."""
    for k in range(flippable - 1, -1, -1):
        (a, s), to = _place(reach[table, k]), np.uintp(k) * (BOTH + BOTH)
        for i in range(HALF):
            rarer = tails[a + i] + s * (tails[a + i + HALF] - tails[a + i])
            likelier, near, far = ONE - rarer, above[i], above[HALF + i]
            bits[to + i] = rarer
            bits[to + HALF + i] = likelier
            bits[to + BOTH + i] = rarer * near
            bits[to + BOTH + HALF + i] = likelier * far
            above[i] = near * likelier
            above[i + HALF] = far * rarer


@njit(fastmath=FUSE)
def _hits(chosen, table, sets, bits, above, below, hit):
    """Pr(a table retrieves the key), the sum over its sets: see the C++ kernel."""
    for i in range(BOTH):
        hit[i] = above[i]
    for p in range(1, chosen.shape[1]):
        s = chosen[table, p]
        parent, rest, top = sets[s, 0], sets[s, 1], sets[s, 2]
        own, before = np.uintp(s) * BOTH, np.uintp(parent) * BOTH
        last = np.uintp(top) * (BOTH + BOTH) + BOTH
        if parent > 0:
            near = np.uintp(sets[parent, 2]) * (BOTH + BOTH)
            far = near + HALF
            if rest != parent:
                near, far = far, near
            for i in range(HALF):
                below[own + i] = below[before + i] * bits[near + i]
                below[own + i + HALF] = below[before + i + HALF] * bits[far + i]
        for i in range(BOTH):
            hit[i] += below[own + i] * bits[last + i]


@njit(fastmath=FUSE)
def _count(hit, min_hits, exactly):
    """Let one more table hit or miss at every knot."""
    for i in range(BOTH):
        hit[i] = min(hit[i], ONE)
        exactly[np.uintp(min_hits) * BOTH + i] += exactly[np.uintp(min_hits - 1) * BOTH + i] * hit[i]
    for j in range(min_hits - 1, 0, -1):
        now = np.uintp(j) * BOTH
        for i in range(BOTH):
            exactly[now + i] = exactly[now + i] * (ONE - hit[i]) + exactly[now - BOTH + i] * hit[i]
    for i in range(BOTH):
        exactly[i] *= ONE - hit[i]


@njit(fastmath=FUSE)
def _interpolate(knots, weights, cells):
    """ln u in every cell; held beyond the outermost knots."""
    span = weights.shape[1]
    held = np.empty(KNOTS + 2 * STENCIL, np.float32)
    held[:STENCIL], held[STENCIL:-STENCIL], held[-STENCIL:] = knots[0], knots, knots[-1]
    cells[: span // 2], cells[-span // 2 - 1 :] = knots[0], knots[-1]
    for k in range(KNOTS - 1):
        near, first = held[k + STENCIL // 2 + 1 :], np.uintp(span // 2 + k * span)
        a, b, c, d, e, f, g, h = near[0], near[1], near[2], near[3], near[4], near[5], near[6], near[7]
        for i in range(np.uintp(span)):
            low = weights[0, i] * a + weights[1, i] * b + weights[2, i] * c + weights[3, i] * d
            high = weights[4, i] * e + weights[5, i] * f + weights[6, i] * g + weights[7, i] * h
            cells[first + i] = min(low + high, ZERO)
