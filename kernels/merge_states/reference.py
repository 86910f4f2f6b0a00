"""merge_states in plain torch."""

import torch

from truffle.kernels.contract import Needs
from truffle.kernels.registry import implements


@implements("merge_states", "reference", Needs(device="any"))
def merge_states(
    outs: torch.Tensor,
    lses: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    total = lses.logsumexp(0)
    weights = (lses - total.clamp_min(torch.finfo(torch.float32).min)).exp()
    out.copy_((weights[..., None] * outs).sum(0))
    lse.copy_(total)
