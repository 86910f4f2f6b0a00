"""Which sets of bits can be among the first P that query-directed probing flips, whatever the margins are."""

from __future__ import annotations

import functools

import numpy as np

MAX_PROBES = 64


@functools.cache
def probe_sets(K: int, probes: int) -> np.ndarray:
    """Candidate sets, int32 [S, 3] of (parent, rest, top), the empty set first and parents before children.

    Bits are numbered by ascending margin. In the order of Lv et al. 2007 (VLDB, section 4.4) a set comes after
    all that it dominates, so those that dominate `probes` sets or more are never reached: 13 of 4,096 remain
    for 8 probes of 12 bits. A set's `parent` has its largest bit `top` lowered by one, where that bit is
    free, and otherwise taken out; `rest` is the set without `top`. The empty set is (0, 0, 0).
    """
    sets: list[tuple[int, ...]] = [()]
    rows = [(0, 0, 0)]
    index: dict[tuple[int, ...], int] = {(): 0}
    for parent in sets:  # grows meanwhile
        for child in _children(parent, K):
            if _dominated(child[::-1], K) <= probes:
                index[child] = len(sets)
                rows.append((index[parent], index[child[:-1]], child[-1]))
                sets.append(child)
    table = np.array(rows, np.int32)
    table.setflags(write=False)
    return table


def _children(bits: tuple[int, ...], K: int) -> list[tuple[int, ...]]:
    if not bits:
        return [(0,)]
    after = bits[-1] + 1
    return [(*bits[:-1], after), (*bits, after)] if after < K else []


def _dominated(descending: tuple[int, ...], limit: int) -> int:
    """Sets whose members are, one by one from the largest, no larger; itself and the empty set included."""
    if not descending:
        return 1
    most = min(descending[0], limit - 1)
    return 1 + sum(_dominated(descending[1:], bit) for bit in range(most + 1))
