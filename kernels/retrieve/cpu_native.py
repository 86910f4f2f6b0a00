"""retrieve in C++: a byte a key counts its hits while buckets are prefetched; keys hit often enough are then found
64 bytes at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from truffle.kernels.contract import Needs
from truffle.kernels.handles import expect_whole_segment
from truffle.kernels.isa import ISAS, PINNING, native, resolve
from truffle.kernels.registry import implements
from truffle.kernels.store import Segment


@implements("retrieve", "cpu_native", Needs(isas=ISAS, pinning=PINNING))
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
    handles = [[native_segment(segment) for segment in segments] for segments in tables]
    native.retrieve(handles, query_codes, ids, count, min_hits, threads, resolve(isa), pinning)


def native_segment(segment: Segment) -> native.Segment:
    """The segment's native handle, made once and kept beside its fields."""
    handle = segment.__dict__.get("_native")
    if handle is None:
        expect_whole_segment(segment, "tables")
        handle = native.Segment(segment.start, segment.offsets, segment.ids)
        segment.__dict__["_native"] = handle
    return handle
