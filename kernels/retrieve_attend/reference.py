"""retrieve_attend as what it is made of: retrieve, then sparse_attend."""

from collections.abc import Sequence

import torch

from truffle.kernels import registry
from truffle.kernels.collision import CollisionLaw
from truffle.kernels.registry import implements
from truffle.kernels.store import Segment, Store


@implements("retrieve_attend", "reference")
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
    capacity = max(1, *(sum(segment.length for segment in segments) for segments in tables))
    ids = torch.empty(count.shape[0], capacity, dtype=torch.int32)
    registry.get("retrieve", "reference").function(tables, query_codes, ids, count, min_hits=min_hits)
    attend = registry.get("sparse_attend", "reference").function
    attend(q, stores, ids, count, center, law, None, out, lse, scale=scale)
