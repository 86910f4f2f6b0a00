"""dense_attend in plain torch, float32."""

import torch

from truffle.kernels.contract import Needs
from truffle.kernels.registry import implements


@implements("dense_attend", "reference", Needs(device="any"))
def dense_attend(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    lengths: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    scale: float,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    _, Hkv, T, _ = keys.shape
    query = q.float().unflatten(1, (Hkv, -1)) * scale  # [B, Hkv, G, d]
    logits = query @ keys.float().transpose(2, 3)
    beyond = torch.arange(T, device=q.device) >= lengths[:, None]  # [B, T]
    logits = logits.masked_fill(beyond[:, None, None], -torch.inf)
    total = logits.logsumexp(-1, keepdim=True)
    weights = (logits - total.clamp_min(torch.finfo(torch.float32).min)).exp()
    present = values.float().masked_fill(beyond[:, None, :, None], 0.0)
    out.copy_((weights @ present).flatten(1, 2))
    lse.copy_(total.flatten(1))
