"""retrieve_attend in C++: what one thread finds is attended to by all, rows that heads share are read once.

Searches wait for memory at other times than rows do, so that threads doing both leave it idle less than two
operations one after the other. The query heads of a group attend to the union of their samples where that saves a
fifth of the rows.
"""

from collections.abc import Sequence

import torch

from truffle.kernels.collision import CollisionLaw
from truffle.kernels.contract import Needs
from truffle.kernels.isa import ISAS, PINNING, native, resolve
from truffle.kernels.registry import implements
from truffle.kernels.retrieve.cpu_native import native_segment
from truffle.kernels.sparse_attend.cpu_native import native_store
from truffle.kernels.store import Segment, Store


@implements("retrieve_attend", "cpu_native", Needs(isas=ISAS, pinning=PINNING))
def retrieve_attend(
    q: torch.Tensor,
    tables: Sequence[Sequence[Segment]],
    query_codes: torch.Tensor,
    stores: Sequence[Store],
    center: torch.Tensor,
    law: CollisionLaw,
    out: torch.Tensor,
    lse: torch.Tensor,
    count: torch.Tensor,
    *,
    scale: float,
    min_hits: int = 2,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    segments = [[native_segment(segment) for segment in request] for request in tables]
    native.retrieve_attend(
        q, segments, query_codes, [native_store(store) for store in stores], center, law.tables, out, lse, count,
        scale, min_hits, threads, resolve(isa), pinning,
    )  # fmt: skip
