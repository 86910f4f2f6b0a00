"""hash_codes in plain torch, float64."""

import torch

from truffle.kernels.contract import Needs
from truffle.kernels.registry import implements


@implements("hash_codes", "reference", Needs(device="any"))
def hash_codes(
    x: torch.Tensor,
    planes: torch.Tensor,
    center: torch.Tensor | None,
    codes: torch.Tensor,
    *,
    K: int,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    x = x.double()
    if center is not None:
        x = x - center.double()[:, None]
    bits = (x @ planes.double() > 0).unflatten(-1, (-1, K))  # [R, n, L, K]
    weights = 2 ** torch.arange(K, device=x.device)
    codes.copy_((bits * weights).sum(-1).transpose(1, 2))
