"""What the stages of a scan on a GPU leave for those that follow: scratch that both GPU implementations share.

A row's tokens are shared out in parts, alike in every stage, so that a card is busy whatever the number of rows, and
what parts found is put together by whoever needs it next: no stage waits for the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from truffle.kernels.codes import Codes
from truffle.kernels.workspace import workspace

PART_TOKENS = 1024  # the least a part has; all have a multiple of it
MOST_PARTS = 128  # of a row
BIN_STEPS = 8  # bins of proposals to a factor of two
BINS = 128 * BIN_STEPS  # for proposals from 2^-96 on, where none is less than e^-40 / 2^31
LOWEST_BIN = (127 - 96) * BIN_STEPS  # exponent and leading bits of the fraction of 2^-96
FRACTION_BITS = 23 - (BIN_STEPS.bit_length() - 1)  # of float32, below those that tell bins apart
CANDIDATES = 16  # multipliers tried within a bin's width


@dataclass(frozen=True)
class Scratch:
    """Scratch of B requests, their H heads and R rows, for rows of at most `parts` parts.

    Attributes:
        parts: as many as any request can have whose tokens its codes have room for.
        queries: whole numbers, four to a word, [B, H, words].
        corrections: what turns products with codes into products with levels, [B, H] int32.
        factors: what a product of 1 is as a score in units of ln 2, [B, H].
        scores: estimates in units of ln 2, [B, H, stride].
        peaks, sums: the largest score of each part, and its sum of 2^(score - peak), [B, H, MOST_PARTS].
        proposals: W of scan_sample's formula, [B, R, stride].
        bins: proposals of each row by size, [B, R, BINS] int32.
        certain, rest: of each part and candidate c, how many c W are 1 or more, and the sum of the other W,
            [B, R, MOST_PARTS, CANDIDATES].
        cuts: multiplier, least ratio, and threshold of a priority sample, [3, B, R].
        counts: keys drawn of each part, [B, R, MOST_PARTS] int32.
    """

    parts: int
    queries: torch.Tensor
    corrections: torch.Tensor
    factors: torch.Tensor
    scores: torch.Tensor
    peaks: torch.Tensor
    sums: torch.Tensor
    proposals: torch.Tensor
    bins: torch.Tensor
    certain: torch.Tensor
    rest: torch.Tensor
    cuts: torch.Tensor
    counts: torch.Tensor

    @staticmethod
    def of(q: torch.Tensor, codes: Sequence[Codes], R: int) -> Scratch:
        """Scratch of a call of scan_sample, the same at every call of its sizes on one stream."""
        (B, H, _), device = q.shape, q.device
        longest = max(held.length for held in codes)
        stride = -(-max(longest, 1) // PART_TOKENS) * PART_TOKENS
        words = codes[0].words.shape[2] * (8 // codes[0].bits)

        def room(purpose: str, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            numbers = torch.Size(shape).numel()
            return workspace(device, f"scan_sample {purpose}", numbers, dtype)[:numbers].view(shape)

        return Scratch(
            parts=min(MOST_PARTS, stride // PART_TOKENS),
            queries=room("queries", B, H, words, dtype=torch.int32),
            corrections=room("corrections", B, H, dtype=torch.int32),
            factors=room("factors", B, H),
            scores=room("scores", B, H, stride),
            peaks=room("peaks", B, H, MOST_PARTS),
            sums=room("sums", B, H, MOST_PARTS),
            proposals=room("proposals", B, R, stride),
            bins=room("bins", B, R, BINS, dtype=torch.int32),
            certain=room("certain", B, R, MOST_PARTS, CANDIDATES),
            rest=room("rest", B, R, MOST_PARTS, CANDIDATES),
            cuts=room("cuts", 3, B, R),
            counts=room("counts", B, R, MOST_PARTS, dtype=torch.int32),
        )
