"""build_tables in plain torch: a stable sort."""

import torch

from truffle.kernels.checks import expect
from truffle.kernels.contract import Needs
from truffle.kernels.registry import implements


@implements("build_tables", "reference", Needs(device="any"))
def build_tables(
    codes: torch.Tensor,
    offsets: torch.Tensor,
    ids: torch.Tensor,
    *,
    K: int,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    buckets = torch.arange((1 << K) + 1, dtype=torch.int32, device=codes.device)
    for row, part in enumerate(codes):  # sorting takes many times the codes' memory
        ordered, order = part.int().sort(dim=-1, stable=True)
        largest = int(ordered.max()) if ordered.numel() else 0
        expect(largest < 1 << K, "codes", f"codes below 2^K = {1 << K}", largest)
        ids[row] = order
        offsets[row] = torch.searchsorted(ordered, buckets.expand_as(offsets[row]).contiguous())
