"""Which buckets to probe, in Numba: sets of bits are ranked by counting, where a sort would branch."""

import numpy as np
from numba import njit

from truffle.kernels.numba_support import bits_float, float_bits

FARTHEST = np.float32(1e9)  # what a margin that is no number counts as; its square is finite
LANES = np.uintp(16)
INDEX_BITS = np.int64(8)  # of a key, below its value's bits: the earlier of equals comes first, and keys differ


@njit
def plan(margins, row, sets, reach, chosen, flippable, codes):
    """Write a row's codes, the nearest of each table first.

    Fills by table the margins in ascending order, `reach` [L, K], the sets probed, `chosen` [L, P], and how many of the
    first bits some of these flip, `flippable` [L].
    """
    (L, P), K, S = chosen.shape, reach.shape[1], len(sets)
    padded = (max(K, S) + LANES - 1) // LANES * LANES
    keys, place = np.zeros(padded, np.int64), np.empty(padded, np.int64)
    score, flips, bit = np.zeros(S, np.float32), np.zeros(S, np.int32), np.empty(K, np.int32)
    for table in range(L):
        own = 0
        for k in range(K):
            margin = margins[row, table, k]
            keys[k] = _key(min(np.abs(margin), FARTHEST) if margin == margin else FARTHEST, k)
            own |= np.int32(margin > 0) << k
        _rank(keys, K, place)
        for k in range(K):
            reach[table, place[k]] = _value(keys[k])
            bit[place[k]] = 1 << k
        keys[0] = 0
        for s in range(1, S):
            rest, top = sets[s, 1], sets[s, 2]
            score[s] = score[rest] + reach[table, top] * reach[table, top]
            flips[s] = flips[rest] | bit[top]
            keys[s] = _key(score[s], s)
        _rank(keys, S, place)
        last = 0
        for s in range(S):
            if place[s] < P:
                chosen[table, place[s]] = s
                codes[row, table, place[s]] = own ^ flips[s]
                last = max(last, sets[s, 2] + 1 if s > 0 else 0)
        flippable[table] = last


@njit
def _key(value, index):
    return (np.int64(float_bits(value)) << INDEX_BITS) | np.int64(index)


@njit
def _value(key):
    return bits_float(np.uint32(key >> INDEX_BITS))


@njit
def _rank(keys, count, place):
    """place[i] = how many of the first `count` keys are below key i; what follows in the last LANES is undefined."""
    for first in range(np.uintp(0), np.uintp(count), LANES):
        for i in range(LANES):
            place[first + i] = 0
        for j in range(np.uintp(count)):
            other = keys[j]
            for i in range(LANES):
                place[first + i] += np.int64(other < keys[first + i])
