"""Where a priority sample ends, found by sorting on a device without waiting for it: a check, not made for speed."""

from __future__ import annotations

import torch

ALL, NONE = 3e38, 0.0  # multipliers of proposals that take every key, and none


def lift_least(
    wanted: torch.Tensor, lengths: torch.Tensor, heads: int, floor: torch.Tensor, cuts: torch.Tensor
) -> None:
    """Fill cuts[1] [B, R], the least that proposals of rows of `heads` count as, by `lengths` [B] and `floor` [B]."""
    n, k = lengths[:, None], wanted.round()
    cuts[1] = torch.where((k > 0) & (k < n), heads * floor[:, None] / (n * k), 0.0)


def cut_at(lifted: torch.Tensor, wanted: torch.Tensor, lengths: torch.Tensor, cuts: torch.Tensor) -> None:
    """Fill cuts[0] and cuts[2], multiplier and threshold, from proposals over random numbers, [B, R, stride]."""
    n, k, tokens = lengths[:, None], wanted.round(), torch.arange(lifted.shape[-1], device=lifted.device)
    ordered = lifted.masked_fill(tokens >= n[..., None], -1.0).sort(-1, descending=True).values
    place = k.clamp(max=lifted.shape[-1] - 1).long()[..., None]
    threshold = torch.where(k >= n, 0.0, ordered.gather(-1, place)[..., 0])
    cuts[2] = torch.where(k > 0, threshold, ALL)
    cuts[0] = torch.where(k == 0, NONE, torch.where(k >= n, ALL, 1 / threshold))
