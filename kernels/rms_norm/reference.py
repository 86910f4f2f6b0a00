"""rms_norm in plain torch, float32."""

import torch
import torch.nn.functional as F

from truffle.kernels.contract import Needs
from truffle.kernels.registry import implements


@implements("rms_norm", "reference", Needs(device="any"))
def rms_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    out: torch.Tensor,
    *,
    epsilon: float,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    out.copy_(F.rms_norm(x.float(), weight.shape, weight.float(), epsilon))
