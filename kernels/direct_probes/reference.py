"""direct_probes in float64: a heap of sets for the probes, the law at every cell."""

import heapq

import torch

from truffle.kernels.collision import TABLE_CELLS
from truffle.kernels.directed import DirectedLaw, own_codes
from truffle.kernels.registry import implements


@implements("direct_probes", "reference")
def direct_probes(
    margins: torch.Tensor,
    query_codes: torch.Tensor,
    log_u: torch.Tensor,
    *,
    min_hits: int = 2,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    probes = query_codes.shape[3]
    squares = margins.double().square().nan_to_num(torch.inf).flatten(0, 2)
    flips = torch.tensor([_nearest(table, probes) for table in squares.tolist()]).view_as(query_codes)
    query_codes.copy_(own_codes(margins)[..., None] ^ flips)
    law = DirectedLaw(margins, query_codes, log_u, min_hits)
    agreement = torch.arange(TABLE_CELLS + 1).double() / TABLE_CELLS
    for row in range(len(log_u)):
        log_u[row] = torch.from_numpy(law.log_inclusion_at(agreement, row))


def _nearest(squares: list[float], probes: int) -> list[int]:
    """XOR masks of the sets with the least sum of squares: a set's successors move its last bit on, or add one."""
    order = sorted(range(len(squares)), key=squares.__getitem__)
    masks = [0]
    heap: list[tuple[float, tuple[int, ...]]] = [(squares[order[0]], (0,))]
    while len(masks) < probes:
        score, bits = heapq.heappop(heap)
        masks.append(sum(1 << order[bit] for bit in bits))
        after = bits[-1] + 1
        if after < len(order):
            added = squares[order[after]]
            heapq.heappush(heap, (score + added, (*bits, after)))
            moved = sum(squares[order[bit]] for bit in bits[:-1]) + added
            heapq.heappush(heap, (moved, (*bits[:-1], after)))
    return masks
