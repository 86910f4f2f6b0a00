"""sparse_attend in Numba: every sample is cut into chunks of keys, attended apart and merged.

The heads that share a list take a chunk in turn: the first brings its rows into the cache, where the others find them.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit, prange

from truffle.kernels.checks import expect
from truffle.kernels.collision import InclusionLaw
from truffle.kernels.contract import Needs
from truffle.kernels.numba_math import agreement_cell, exp_below_one, interpolate
from truffle.kernels.numba_support import FUSE, REORDER, address, array_at, bits, launching, prefetch, widen
from truffle.kernels.registry import implements
from truffle.kernels.store import Store, row_width

CHUNK = 512  # keys a task: enough tasks for all threads, whatever the number of heads
BLOCK = 64  # keys whose values are read after all their scores: both stay in the first-level cache
AHEAD = 8  # keys whose rows are on their way while one is scored
LINE_BYTES = 64
FLOATS = np.empty(0, np.float32)


@implements("sparse_attend", "cpu_numba", Needs(packages=("numba",)))
def sparse_attend(
    q: torch.Tensor,
    stores: Sequence[Store],
    ids: torch.Tensor,
    count: torch.Tensor,
    center: torch.Tensor | None,
    law: InclusionLaw | None,
    log_weight: torch.Tensor | None,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    scale: float,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    described = np.array([_described(store, stores[0].rows.dtype) for store in stores], np.int64)
    like = bits(stores[0].rows[0, :0, 0])
    tables = np.empty((0, 0), np.float32) if law is None else law.tables
    centers = np.empty((0, 0, 0), np.float32) if center is None else center.numpy()
    weights = np.empty((0, 0), np.float32) if log_weight is None else log_weight.numpy()
    arrays = (bits(q), described, like, ids.numpy(), count.numpy(), centers, tables, weights)
    with launching(threads):
        wrong = _attend(*arrays, np.float32(scale), out.numpy(), lse.numpy())
    if wrong >= 0:
        raise IndexError(f"ids: expected rows of the store, got one outside in row {wrong}")


def _described(store: Store, dtype: torch.dtype) -> tuple[int, ...]:
    Hkv, capacity, width = store.rows.shape
    expect(width == row_width(store.head_dim, dtype), "stores", "rows of key and value", f"{width} wide")
    expect(0 <= store.length <= capacity, "stores", f"a length up to {capacity}", store.length)
    return address(store.rows, dtype, "stores"), store.length, Hkv, capacity, width


@njit(parallel=True, nogil=True, cache=True)
def _attend(q, stores, like, ids, count, centers, tables, weights, scale, out, lse):
    """Returns a row of `ids` that names a key outside its store, or -1."""
    B, H, d = q.shape
    tasks, sharing = _cut(count), B * H // max(len(count), 1)  # heads a list
    states = np.empty((len(tasks), sharing, d + 2), np.float32)  # running maximum, sum of weights, weighted values
    fits = np.empty(len(tasks), np.bool_)
    for task in prange(len(tasks)):
        row, first, last = tasks[task]
        b = row * sharing // H
        sample, store = ids[row, first:last], stores[b]
        fits[task] = _all_below(sample, store[1])
        for turn in range(sharing if fits[task] else 0):
            h = row * sharing % H + turn
            query, g = _widened(q[b, h]), h // (H // store[2])
            center = centers[b, g] if tables.size > 0 else query
            table = tables[row if len(tables) > 1 else 0] if tables.size > 0 else query[:0]
            known = weights[row, first:last] if tables.size == 0 else query
            _attend_chunk(query, store, g, like, sample, center, table, known, scale, states[task, turn])
    for task in range(len(tasks)):
        if not fits[task]:
            return tasks[task, 0]
    _merge(tasks, states, out.reshape(-1, d), lse.reshape(-1))
    return -1


@njit
def _cut(count):
    """Rows of ``(row, first, last)``, in order."""
    total = 0
    for row in range(len(count)):
        total += -(-np.intp(count[row]) // CHUNK)
    tasks = np.empty((total, 3), np.intp)
    task = 0
    for row in range(len(count)):
        for first in range(0, count[row], CHUNK):
            tasks[task] = row, first, min(first + CHUNK, count[row])
            task += 1
    return tasks


@njit
def _all_below(sample, length):
    largest = np.uint32(0)
    for i in range(len(sample)):
        largest = max(largest, np.uint32(sample[i]))
    return len(sample) == 0 or largest < length


@njit
def _widened(x):
    wide = np.empty(len(x), np.float32)
    for j in range(len(x)):
        wide[j] = widen(x[j])
    return wide


@njit
def _attend_chunk(query, store, g, like, sample, center, table, known, scale, state):
    d, capacity, width = len(query), store[3], store[4]
    item_bytes = like.itemsize
    start = store[0] + g * capacity * width * item_bytes
    rows = array_at(start, capacity * width, like)
    floats = array_at(start, capacity * width * item_bytes // 4, FLOATS)
    floats_at, floats_stride = 2 * d * item_bytes // 4, width * item_bytes // 4
    scores, norms, value_scales = np.empty((3, BLOCK), np.float32)
    scaled, key_scale = item_bytes == 1, np.float32(1)
    length, offset = np.sqrt(_dot(query, query)), _dot(query, center)
    state[0], state[1:] = -np.inf, 0.0
    for first in range(0, len(sample), BLOCK):
        size = min(BLOCK, len(sample) - first)
        for i in range(size):
            if first + i + AHEAD < len(sample):
                base = np.intp(sample[first + i + AHEAD]) * width
                for ahead in range(base, base + width, LINE_BYTES // item_bytes):
                    prefetch(rows, ahead)
            base = np.intp(sample[first + i]) * width
            key = rows[base : base + d]
            scores[i] = _dot(query, key)
            if scaled:
                tail = np.intp(sample[first + i]) * floats_stride + floats_at
                key_scale, value_scales[i] = floats[tail], floats[tail + 1]
                scores[i] *= key_scale
            if table.size > 0:
                norms[i] = _distance(key, key_scale, center)
        if table.size > 0:
            _weigh(scores[:size], norms[:size], length, offset, table, scale)
        else:
            for i in range(size):
                scores[i] = scale * scores[i] - known[first + i]
        scales = value_scales[: size if scaled else 0]
        _absorb(scores, scales, sample[first : first + size], rows[d:], width, state)


@njit(error_model="numpy")  # a check for zero would end the vector loop
def _weigh(scores, norms, length, offset, table, scale):
    """Scores become logits, ``scale q.k - ln u``; the look-ups stand apart as they are no vectors."""
    cells = len(table) - 1
    for i in range(len(scores)):
        norm = norms[i] * length
        cosine = (scores[i] - offset) / norm if norm > 0 else np.float32(0)
        norms[i] = agreement_cell(cosine, cells)
    for i in range(len(scores)):
        scores[i] = scale * scores[i] - interpolate(norms[i], table)


@njit
def _absorb(logits, scales, sample, values, width, state):
    """Add a block of keys to a running state; `scales` are those of its values, if they have any."""
    highest = state[0]
    for i in range(len(sample)):
        highest = max(highest, logits[i])
    shrink = exp_below_one(state[0] - highest)
    total = state[1] * shrink
    for i in range(len(sample)):
        logits[i] = exp_below_one(logits[i] - highest)
    for i in range(len(sample)):
        total += logits[i]
    for i in range(len(scales)):
        logits[i] *= scales[i]
    state[0], state[1] = highest, total
    sums, d = state[2:], len(state) - 2
    for j in range(d):
        sums[j] *= shrink
    for i in range(0, len(sample) - 3, 4):
        _add_four(logits[i : i + 4], sample[i : i + 4], values, width, sums)
    for i in range(len(sample) // 4 * 4, len(sample)):
        _add_one(logits[i], values[np.intp(sample[i]) * width :], sums)


@njit(fastmath=REORDER)
def _dot(a, b):
    total = np.float32(0)
    for j in range(len(a)):
        total += a[j] * widen(b[j])
    return total


@njit(fastmath=REORDER - FUSE)  # fused into the difference, a scaled key would be off from a center that it is
def _distance(key, key_scale, center):
    total = np.float32(0)
    for j in range(len(key)):
        apart = key_scale * widen(key[j]) - center[j]
        total += apart * apart
    return np.sqrt(total)


@njit(fastmath=REORDER)
def _add_four(w, keys, values, width, sums):
    v0, v1 = values[np.intp(keys[0]) * width :], values[np.intp(keys[1]) * width :]
    v2, v3 = values[np.intp(keys[2]) * width :], values[np.intp(keys[3]) * width :]
    w0, w1, w2, w3 = w[0], w[1], w[2], w[3]
    for j in range(len(sums)):
        sums[j] += w0 * widen(v0[j]) + w1 * widen(v1[j]) + w2 * widen(v2[j]) + w3 * widen(v3[j])


@njit(fastmath=REORDER)
def _add_one(weight, value, sums):
    for j in range(len(sums)):
        sums[j] += weight * widen(value[j])


@njit
def _merge(tasks, states, out, lse):
    """Weigh the chunks of each row by their sums; a row without chunks is an empty sample."""
    out[:], lse[:] = 0.0, -np.inf
    first, sharing = 0, states.shape[1]
    while first < len(tasks):
        row, last = tasks[first, 0], first
        while last < len(tasks) and tasks[last, 0] == row:
            last += 1
        for turn in range(sharing):
            head = row * sharing + turn
            lse[head] = _merge_head(states[first:last, turn], out[head])
        first = last


@njit
def _merge_head(states, out):
    """Fills out, of zeros, and returns its lse."""
    highest = states[:, 0].max()
    total = np.float32(0)
    for task in range(len(states)):
        weight = np.exp(states[task, 0] - highest)
        total += weight * states[task, 1]
        for j in range(len(out)):
            out[j] += weight * states[task, j + 2]
    for j in range(len(out)):
        out[j] /= total
    return highest + np.log(total)
