"""Philox-4x32-10 for the 64 tokens of a block, in loops without branches: philox.py in Numba."""

import numpy as np
from numba import njit

from truffle.kernels.philox import KEY_STEPS, MULTIPLIERS, ROUNDS

COUNTERS = 16  # a block's; each gives four words
_M0, _M1 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
_K0, _K1 = np.uint32(KEY_STEPS[0]), np.uint32(KEY_STEPS[1])
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


@njit
def random_block(key, counter, first, to):
    """The upper 31 bits of words j of the counters from `first` on: to[16 j] and on, int32 [64].

    Args:
        key: two words, uint32.
        counter: the other three words of the counters, uint32.
    """
    for lane in range(COUNTERS):
        c0, c1 = np.uint64(first + lane), np.uint64(counter[0])
        c2, c3 = np.uint64(counter[1]), np.uint64(counter[2])
        k0, k1 = key[0], key[1]
        for _ in range(ROUNDS):
            a, b = (c0 & _LOW) * _M0, (c2 & _LOW) * _M1
            c0, c1 = (b >> _HALF) ^ (c1 & _LOW) ^ np.uint64(k0), b
            c2, c3 = (a >> _HALF) ^ (c3 & _LOW) ^ np.uint64(k1), a
            k0, k1 = np.uint32(k0 + _K0), np.uint32(k1 + _K1)
        to[lane] = np.int32((c0 & _LOW) >> np.uint64(1))
        to[16 + lane] = np.int32((c1 & _LOW) >> np.uint64(1))
        to[32 + lane] = np.int32((c2 & _LOW) >> np.uint64(1))
        to[48 + lane] = np.int32((c3 & _LOW) >> np.uint64(1))
