"""What the host's kernels do in a call, in numbers that their time is made of: as many as are expected.

    retrieve        probes looked up, entries of buckets walked, counters of one byte or of two swept; and of the fused
                    retrieve_attend, that of both its parts
    direct_probes   buckets chosen by the query
    sparse_attend   bytes of rows gathered; for a scan's sample, which a group's heads share, products too
    scan_sample     bytes of codes, and scores
    dense_attend    bytes read; and of linear, operations

The calibration of a host times calls of known work; the cost model asks what other work would take.
"""

from __future__ import annotations

import math

import torch

from truffle.bench.calibration import expected_fraction
from truffle.bench.synthetic import COSINE_DEVIATION
from truffle.kernels.codes import code_bytes, words_of
from truffle.kernels.store import row_bytes
from truffle.model.config import LshParameters, ModelShape, ScanParameters

Work = dict[str, float]
BYTE_COUNTERS = 256  # tables from which on a hit counter takes two bytes


def retrieve(shape: ModelShape, p: LshParameters, context: int, batch: int, deviation: float | None = None) -> Work:
    """Tables of `batch` requests, visited by every query head."""
    heads, deviation = batch * shape.heads, deviation or COSINE_DEVIATION
    one_table = expected_fraction(p.model_copy(update={"L": 1, "min_hits": 1}), deviation)
    return {
        "probes": heads * p.L * probes_of(p),
        "entries": heads * p.L * context * one_table,
        "counters": heads * context * (p.L < BYTE_COUNTERS),
        "wide_counters": heads * context * (p.L >= BYTE_COUNTERS),
    }


def direct(shape: ModelShape, p: LshParameters, batch: int) -> Work:
    """Buckets that queries choose by their margins."""
    return {"buckets": batch * shape.heads * p.L * probes_of(p)}


def probes_of(p: LshParameters) -> int:
    """Buckets that a query visits in a table."""
    if p.probing.kind == "directed":
        return p.probing.amount
    return sum(math.comb(p.K, flipped) for flipped in range(p.probing.ball + 1))


def attend(
    shape: ModelShape,
    p: LshParameters,
    context: int,
    batch: int,
    store_format: str,
    deviation: float | None = None,
) -> Work:
    """Rows of what every query head has sampled."""
    rows = batch * shape.heads * context * expected_fraction(p, deviation or COSINE_DEVIATION)
    return {"bytes": rows * row_bytes(shape.head_dim, getattr(torch, store_format))}


def attend_lists(shape: ModelShape, p: ScanParameters, context: int, batch: int, store_format: str) -> Work:
    """Rows of a scan's sample, read once for all heads that share it.

    A key is drawn as the proposal or the floor would have it, whichever is likelier: together hardly more than the
    larger of the two (0.9 of the budget by default, and 0.901 where samples of 96K were counted).
    """
    lists = batch * (shape.heads if p.per == "head" else shape.kv_heads)
    rows = lists * max(p.expected(context))
    per_row = row_bytes(shape.head_dim, getattr(torch, store_format))
    return {"bytes": rows * per_row, "products": rows * per_row * batch * shape.heads / lists}


def scan(shape: ModelShape, p: ScanParameters, context: int, batch: int) -> Work:
    """Codes of all keys, read once a key/value head, and a score for every query head."""
    per_key = 4 * words_of(shape.head_dim, p.bits) + 2
    return {"bytes": batch * shape.kv_heads * context * per_key, "scores": batch * shape.heads * context}


def device_scan_bytes(shape: ModelShape, p: ScanParameters, context: int) -> float:
    """What a card reads and writes for a request: codes once, scores twice by query head, proposals four times."""
    rows = shape.heads if p.per == "head" else shape.kv_heads
    return code_bytes(shape.kv_heads, context, shape.head_dim, p.bits) + 4 * context * (2 * shape.heads + 4 * rows)


def dense(shape: ModelShape, tokens: float, batch: int) -> Work:
    """Keys and values of a layer in bfloat16."""
    return {"bytes": batch * tokens * shape.kv_bytes_per_token() / shape.layers}


def linear(weights: int, batch: int) -> Work:
    """Products of bfloat16 weights and a vector a request."""
    return {"bytes": 2.0 * weights, "operations": 2.0 * weights * batch}
