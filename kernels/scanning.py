"""What a scan proposes and draws, in float64 on the CPU: scan_sample's formula, one request and row at a time.

The reference is made of it, and so is the comparison that every implementation has to pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from truffle.kernels.codes import BLOCK_TOKENS, Codes, unpacked
from truffle.kernels.philox import philox

LARGEST_QUERY = 1e15  # a query with a larger element, or one that is no number, has codes of 0
LARGEST_CODE = 127
LOWEST = -40.0  # an estimate further below its head's largest counts as so far below


@dataclass(frozen=True)
class Drawing:
    """How the rows of a request are drawn, beside what is proposed.

    Attributes:
        wanted: keys to expect in the sample, without those of the floor.
        floor: keys to expect of a uniform sample that is drawn at least.
        row: of the request.
    """

    wanted: float
    floor: float
    kind: str
    seed: int
    layer: int
    step: int
    row: int


def in_use(codes: Sequence[Codes], lengths: torch.Tensor) -> list[Codes]:
    """Codes of the tokens that are scanned, `lengths` [B] of them."""
    return [replace(held, length=n) for held, n in zip(codes, lengths.tolist(), strict=True)]


def query_codes(q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes [..., d] int64 of queries, and what a code of 1 stands for, [...] float32; float32 throughout."""
    largest = q.abs().amax(-1, keepdim=True)
    fine = (largest > 0) & (largest <= LARGEST_QUERY)
    codes = torch.where(fine, q * (LARGEST_CODE / largest), 0.0).nan_to_num(0.0).round().long()
    return codes, torch.where(fine, largest, 0.0)[..., 0] * (1 / LARGEST_CODE)


def estimates(q: torch.Tensor, codes: Codes, scale: float) -> torch.Tensor:
    """Estimated scores [H, n] float64 of rotated queries q [H, d]."""
    Hkv, (H, _) = codes.words.shape[0], q.shape
    held, step = query_codes(q.float())
    levels = 2 * unpacked(codes.words, codes.head_dim, codes.bits)[:, : codes.length] - (2**codes.bits - 1)
    products = held.view(Hkv, H // Hkv, -1).double() @ levels.double().transpose(1, 2)
    scales = codes.scales.view(Hkv, -1)[:, None, : codes.length].double()
    return (products * scales).reshape(H, -1) * (step.double() * scale)[:, None]


def proposals(estimated: torch.Tensor, rows: int) -> torch.Tensor:
    """Weights [rows, n] of the keys for each row: its heads' estimated attention, added up."""
    if estimated.shape[1] == 0:
        return estimated.new_empty(rows, 0)
    e = (estimated - estimated.amax(-1, keepdim=True)).clamp_min(LOWEST).exp()
    return (e / e.sum(-1, keepdim=True)).unflatten(0, (rows, -1)).sum(1)


def random_words(drawing: Drawing, n: int) -> torch.Tensor:
    """31 random bits a key, [n] int64."""
    blocks = -(-n // BLOCK_TOKENS)
    counter = np.arange(blocks * 16), drawing.row, drawing.step, drawing.layer
    words = philox((drawing.seed & 0xFFFFFFFF, drawing.seed >> 32), counter).reshape(blocks, 16, 4)
    return torch.from_numpy((words.swapaxes(1, 2).reshape(-1)[:n] >> 1).astype(np.int64))


def ratios(weights: torch.Tensor, heads: int, drawing: Drawing) -> torch.Tensor:
    """What inclusion probabilities are before they are cut at 1, [n], of a row's weights [n], which sum to `heads`."""
    n = len(weights)
    if drawing.kind == "priority":
        return _above(weights, heads, drawing)
    if drawing.wanted >= n:
        return torch.full_like(weights, torch.inf)
    return (weights * _multiplier(weights, drawing.wanted)).clamp_min(drawing.floor / n)


def chosen(ratio: torch.Tensor, words: torch.Tensor, drawing: Drawing) -> torch.Tensor:
    """Which keys are drawn, [n] bool."""
    if drawing.kind == "priority":
        return ratio > uniforms(words)
    return (ratio >= 1) | (words < (ratio.clamp_max(1.0) * 2**31).floor())


def uniforms(words: torch.Tensor) -> torch.Tensor:
    """Numbers in (0, 1) of random words."""
    return (words.double() + 0.5) * 2.0**-31


def _multiplier(weights: torch.Tensor, wanted: float) -> float:
    """c with sum min(1, c w) = wanted, for wanted below the number of keys: the sum is concave in c, so that Newton
    from below only climbs, and piecewise linear, so that it arrives."""
    c = 0.0
    for _ in range(100):
        certain = weights * c >= 1
        better = (wanted - float(certain.sum())) / float(weights[~certain].sum())
        if better <= c * (1 + 1e-12):
            break
        c = better
    return c


def _above(weights: torch.Tensor, heads: int, drawing: Drawing) -> torch.Tensor:
    """Weights over the one at which the sample ends: the (k + 1)-th largest of w / u."""
    n, k = len(weights), round(drawing.wanted)
    if k >= n:
        return torch.full_like(weights, torch.inf)
    if k == 0:
        return torch.zeros_like(weights)
    lifted = weights.clamp_min(heads * drawing.floor / (n * k))
    return lifted / (lifted / uniforms(random_words(drawing, n))).topk(k + 1).values[-1]


def room_for(expected: float) -> int:
    """Ids that a sample of so many keys on average exceeds with a probability below 1e-12 (Chernoff)."""
    return math.ceil(expected + 8 * math.sqrt(expected) + 32)
