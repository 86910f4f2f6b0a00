"""scan_sample in float64, one row at a time."""

from collections.abc import Sequence

import torch

from truffle.kernels import scanning
from truffle.kernels.codes import Codes
from truffle.kernels.registry import implements
from truffle.kernels.scanning import Drawing


@implements("scan_sample", "reference")
def scan_sample(
    q: torch.Tensor,
    codes: Sequence[Codes],
    lengths: torch.Tensor,
    wanted: torch.Tensor,
    floor: torch.Tensor,
    step: torch.Tensor,
    ids: torch.Tensor,
    count: torch.Tensor,
    log_weight: torch.Tensor,
    *,
    scale: float,
    seed: int = 0,
    layer: int = 0,
    draw: str = "poisson",
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    R = wanted.shape[1]
    for b, held in enumerate(scanning.in_use(codes, lengths)):
        weights = scanning.proposals(scanning.estimates(q[b], held, scale), R)
        for r in range(R):
            row = b * R + r
            drawing = Drawing(float(wanted[b, r]), float(floor[b]), draw, seed, layer, int(step[b]), r)
            chosen, log_p = _drawn(weights[r], q.shape[1] // R, drawing)
            kept = min(len(chosen), ids.shape[1])
            ids[row, :kept], log_weight[row, :kept], count[row] = chosen[:kept], log_p[:kept], kept


def _drawn(weights: torch.Tensor, heads: int, drawing: Drawing) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of the sample, ascending, and the logarithms of their probabilities."""
    if len(weights) == 0:
        return torch.empty(0), torch.empty(0)
    ratio = scanning.ratios(weights, heads, drawing)
    chosen = scanning.chosen(ratio, scanning.random_words(drawing, len(weights)), drawing).nonzero().squeeze(1)
    return chosen, ratio[chosen].clamp_max(1.0).log()
