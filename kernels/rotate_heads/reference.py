"""rotate_heads in plain torch, float32."""

import torch

from truffle.kernels.contract import Needs
from truffle.kernels.registry import implements


@implements("rotate_heads", "reference", Needs(device="any"))
def rotate_heads(
    stacked: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    q: torch.Tensor,
    keys: torch.Tensor,
    told: torch.Tensor | None = None,
    *,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    H, Hkv = q.shape[1], keys.shape[1]
    a, b = stacked[:, : H + Hkv].float().chunk(2, -1)  # [n, H + Hkv, d/2]
    cos, sin = cos[:, None], sin[:, None]
    turned = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
    q.copy_(turned[:, :H])
    if told is not None:
        told.copy_(q)
    keys.copy_(turned[:, H:])
