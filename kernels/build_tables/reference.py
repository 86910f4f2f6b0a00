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
    largest = int(codes.int().max()) if codes.numel() else 0
    expect(largest < 1 << K, "codes", f"codes below 2^K = {1 << K}", largest)
    ordered, order = codes.int().sort(dim=-1, stable=True)
    ids.copy_(order)
    buckets = torch.arange((1 << K) + 1, dtype=torch.int32, device=codes.device)
    offsets.copy_(torch.searchsorted(ordered, buckets.expand_as(offsets).contiguous()))
