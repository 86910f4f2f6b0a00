"""retrieve in Numba: count hits bucket by bucket and append a key the moment it has enough of them."""

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit, prange

from truffle.kernels.checks import ArgumentError, expect
from truffle.kernels.contract import Needs
from truffle.kernels.numba_support import address, array_at, launching, prefetch
from truffle.kernels.registry import implements
from truffle.kernels.store import SEGMENT_TOKENS, Segment

AHEAD = 3  # tables whose buckets are on their way while one is counted
LINE_IDS = 32
OFFSETS, IDS = np.empty(0, np.int32), np.empty(0, np.uint16)

BAD_CODE, BAD_OFFSETS, BAD_ID, REPEATED, NO_ROOM = 1, 2, 3, 4, 5
PROBLEMS = {
    BAD_CODE: (ArgumentError, "query_codes: expected codes below 2^K, got a larger one"),
    BAD_OFFSETS: (ArgumentError, "tables: expected offsets rising from 0 to n, got others"),
    BAD_ID: (IndexError, "tables: expected ids below the length of their segment, got a larger one"),
    REPEATED: (ArgumentError, "query_codes: expected distinct codes a table, got a key more than 255 times"),
    NO_ROOM: (ArgumentError, "tables: expected segments that do not overlap, got more keys than ids hold"),
}


@implements("retrieve", "cpu_numba", Needs(packages=("numba",)))
def retrieve(
    tables: Sequence[Sequence[Segment]],
    query_codes: torch.Tensor,
    ids: torch.Tensor,
    count: torch.Tensor,
    *,
    min_hits: int = 2,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    segments = [_described(segment) for request in tables for segment in request]
    firsts = np.cumsum([0, *map(len, tables)])
    described = np.array(segments, np.int64).reshape(-1, 6)
    hit_type = np.uint8 if query_codes.shape[2] < 256 else np.uint16
    status = np.zeros(len(count), np.uint8)
    arrays = (query_codes.numpy(), ids.numpy(), count.numpy())
    with launching(threads):
        _retrieve(described, firsts, *arrays, min_hits, np.empty(0, hit_type), status)
    if status.any():
        _complain(status)


def _described(segment: Segment) -> tuple[int, ...]:
    offsets = address(segment.offsets, torch.int32, "tables: offsets")
    ids = address(segment.ids, torch.uint16, "tables: ids")
    Hkv, _, entries = segment.offsets.shape
    n = segment.length
    expect(n <= SEGMENT_TOKENS, "tables", f"at most {SEGMENT_TOKENS} keys a segment", n)
    return offsets, ids, segment.start, n, Hkv, entries


def _complain(status: np.ndarray) -> None:
    row = int(status.nonzero()[0][0])
    error, message = PROBLEMS[int(status[row])]
    raise error(f"{message}, in row {row}")


@njit(parallel=True, nogil=True, cache=True)
def _retrieve(segments, firsts, query_codes, ids, count, min_hits, hit_type, status):
    B, H, _, _ = query_codes.shape
    for row in prange(B * H):
        b, h = row // H, row % H
        # An id is written first and kept by moving on; a corrupt bucket can repeat as many as there are.
        found = np.empty(2 * SEGMENT_TOKENS + 1, np.uint16)
        total = 0
        for s in range(firsts[b], firsts[b + 1]):
            added, problem = _search(segments[s], query_codes[b, h], h, H, min_hits, hit_type, found)
            if problem == 0 and total + added > ids.shape[1]:
                problem = NO_ROOM
            if problem != 0:
                status[row] = problem
                break
            start = np.int32(segments[s, 2])
            target = ids[row, total : total + added]
            for i in range(added):
                target[i] = start + np.int32(found[i])
            total += added
        count[row] = total


@njit
def _search(segment, codes, h, H, min_hits, hit_type, found):
    """Write ids hit often enough to `found`; returns their number and what is wrong, or 0."""
    L, probes = codes.shape
    n, Hkv, entries = segment[3], segment[4], segment[5]
    g = h // (H // Hkv)
    offsets = array_at(segment[0] + 4 * g * L * entries, L * entries, OFFSETS)
    tables = array_at(segment[1] + 2 * g * L * n, L * n, IDS)
    ranges = np.empty((L * probes, 2), np.int64)
    problem = _find_buckets(offsets, codes, entries, n, ranges)
    if problem != 0:
        return 0, problem
    hits = np.zeros(SEGMENT_TOKENS, hit_type.dtype)
    total, largest = 0, 0
    for i in range(len(ranges)):
        if i + AHEAD < len(ranges):
            for ahead in range(ranges[i + AHEAD, 0], ranges[i + AHEAD, 1], LINE_IDS):
                prefetch(tables, ahead)
        total, largest = _count(tables[ranges[i, 0] : ranges[i, 1]], hits, min_hits, found, total, largest)
        if total > n:
            return 0, REPEATED
    return total, (BAD_ID if largest >= n else 0)


@njit
def _find_buckets(offsets, codes, entries, n, ranges):
    L, probes = codes.shape
    for table in range(L):
        for probe in range(probes):
            code = np.int64(codes[table, probe])
            if code >= entries - 1:
                return BAD_CODE
            first, last = offsets[table * entries + code], offsets[table * entries + code + 1]
            if first < 0 or last < first or last > n:
                return BAD_OFFSETS
            ranges[table * probes + probe, 0] = table * n + first
            ranges[table * probes + probe, 1] = table * n + last
    return 0


@njit
def _count(bucket, hits, min_hits, found, total, largest):
    for i in range(len(bucket)):
        key = np.intp(bucket[i])
        now = hits[key] + 1
        hits[key] = now
        found[total] = bucket[i]
        total += now == min_hits
        largest = max(largest, key)
    return total, largest
