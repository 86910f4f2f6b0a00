"""retrieve in plain torch: count the hits of every key."""

from collections.abc import Sequence

import torch

from truffle.kernels.registry import implements
from truffle.kernels.store import Segment


@implements("retrieve", "reference")
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
    B, H, _, _ = query_codes.shape
    for b in range(B):
        for h in range(H):
            found = [_hits(segment, h, query_codes[b], min_hits) for segment in tables[b]]
            row = torch.cat(found) if found else torch.empty(0, dtype=torch.int64)
            ids[b * H + h, : len(row)] = row
            count[b * H + h] = len(row)


def _hits(segment: Segment, head: int, query_codes: torch.Tensor, min_hits: int) -> torch.Tensor:
    H, L, _ = query_codes.shape
    kv_head = head // (H // segment.offsets.shape[0])
    hits = torch.zeros(segment.length, dtype=torch.int32)
    for table in range(L):
        offsets = segment.offsets[kv_head, table]
        for code in query_codes[head, table].tolist():
            bucket = segment.ids[kv_head, table, offsets[code] : offsets[code + 1]]
            hits[bucket.long()] += 1
    return segment.start + (hits >= min_hits).nonzero().squeeze(1)
