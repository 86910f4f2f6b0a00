"""Random numbers that are a function of where they are used: Philox-4x32-10 (Salmon et al., SC'11).

One implementation's draw is every implementation's, whatever the order or the number of threads, and no state is kept.
"""

from __future__ import annotations

import numpy as np

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
LOW = np.uint64(0xFFFFFFFF)


def philox(key: tuple[int, int], counter: tuple[np.ndarray | int, ...]) -> np.ndarray:
    """Four random words a counter, uint32 [..., 4].

    Args:
        key: two words of 32 bits.
        counter: four words of 32 bits, or arrays of them that broadcast, in the order of the paper.
    """
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(word, np.uint64) & LOW for word in counter))
    k0, k1 = key
    for _ in range(ROUNDS):
        a, b = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])  # 64 bits each
        c0, c1 = (b >> np.uint64(32)) ^ c1 ^ np.uint64(k0), b & LOW
        c2, c3 = (a >> np.uint64(32)) ^ c3 ^ np.uint64(k1), a & LOW
        k0, k1 = (k0 + KEY_STEPS[0]) & 0xFFFFFFFF, (k1 + KEY_STEPS[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], -1).astype(np.uint32)
