"""sparse_attend in plain torch, float64, one head at a time."""

from collections.abc import Sequence

import torch

from truffle.kernels.collision import InclusionLaw
from truffle.kernels.registry import implements
from truffle.kernels.store import Store


@implements("sparse_attend", "reference")
def sparse_attend(
    q: torch.Tensor,
    stores: Sequence[Store],
    ids: torch.Tensor,
    count: torch.Tensor,
    center: torch.Tensor | None,
    law: InclusionLaw | None,
    log_weight: torch.Tensor | None,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    scale: float,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    B, H, _ = q.shape
    for b in range(B):
        store, group = stores[b], H // stores[b].rows.shape[0]
        for h in range(H):
            row, g = (b * H + h) * len(ids) // (B * H), h // group
            chosen = ids[row, : count[row]].long()
            if chosen.numel() == 0:
                out[b, h], lse[b, h] = 0.0, -torch.inf
                continue
            if chosen.min() < 0 or chosen.max() >= store.length:
                raise IndexError(f"ids: expected rows below {store.length}, got {chosen.max()} in row {row}")
            query, keys = q[b, h].double(), store.keys[g, chosen].double()
            products = keys @ query
            if log_weight is not None:
                log_u = log_weight[row, : len(chosen)].double()
            else:
                assert law is not None
                assert center is not None
                middle = center[b, g].double()
                norms = (keys - middle).norm(dim=-1) * query.norm()
                cosine = torch.where(norms > 0, (products - query @ middle) / norms, 0.0)
                log_u = torch.from_numpy(law.log_inclusion(cosine.numpy(), row))
            logits = scale * products - log_u
            total = logits.logsumexp(0)
            lse[b, h] = total
            out[b, h] = (logits - total).exp() @ store.values[g, chosen].double()
