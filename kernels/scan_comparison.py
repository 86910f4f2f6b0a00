"""Whether a sample of scan_sample is the one that its formula draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from truffle.kernels import scanning
from truffle.kernels.contract import Arguments
from truffle.kernels.scanning import Drawing

TOLERANCE = 1e-3  # relative, of inclusion probabilities
ROUNDING = 2.0**-20  # a float32 score is not known better than by this part of the largest
MOST_ROUNDING = 0.1  # scores that are known worse have probabilities that cannot be compared


@dataclass(frozen=True)
class Row:
    """What the formula says of one row, in float64.

    Attributes:
        ratio: inclusion probabilities before they are cut at 1, [n].
        words: random bits, [n].
        tolerance: how far, relatively, ratios may be off.
    """

    place: int
    drawing: Drawing
    ratio: torch.Tensor
    words: torch.Tensor
    tolerance: float


def rows(arguments: Arguments) -> list[Row]:
    """Every row of a call, as the formula has it."""
    found = []
    R = arguments["wanted"].shape[1]
    for b, codes in enumerate(scanning.in_use(arguments["codes"], arguments["lengths"])):
        estimated = scanning.estimates(arguments["q"][b], codes, arguments["scale"])
        weights = scanning.proposals(estimated, R)
        sizes = estimated.abs().unflatten(0, (R, -1)).flatten(1).amax(1) if codes.length else torch.zeros(R)
        for r in range(R):
            drawing = Drawing(
                wanted=float(arguments["wanted"][b, r]),
                floor=float(arguments["floor"][b]),
                kind=arguments["draw"],
                seed=arguments["seed"],
                layer=arguments["layer"],
                step=int(arguments["step"][b]),
                row=r,
            )
            words = scanning.random_words(drawing, codes.length)
            ratio = scanning.ratios(weights[r], len(estimated) // R, drawing) if codes.length else weights[r]
            found.append(Row(b * R + r, drawing, ratio, words, TOLERANCE + ROUNDING * float(sizes[r])))
    return found


def compare(got: Arguments, want: Arguments) -> str | None:
    """A key may be in or out where its random number is within the tolerance of its probability, and only there."""
    for row in rows(want):
        count, n = int(got["count"][row.place]), len(row.ratio)
        if not 0 <= count <= min(n, got["ids"].shape[1]):
            return f"count of row {row.place} is {count}, of {n} keys"
        ids, log_p = got["ids"][row.place, :count].long(), got["log_weight"][row.place, :count].double()
        if count and not (ids[0] >= 0 and ids[-1] < n and bool((ids.diff() > 0).all())):
            return f"ids of row {row.place} do not ascend from 0 to {n - 1}"
        if not bool((log_p <= 0).all()):
            return f"log_weight of row {row.place} is not the logarithm of probabilities"
        problem = _compare_row(row, ids, log_p) if row.tolerance < MOST_ROUNDING else None
        if problem:
            return f"row {row.place}: {problem}"
    return None


def _compare_row(row: Row, ids: torch.Tensor, log_p: torch.Tensor) -> str | None:
    surely, perhaps = (_included(row, 1 + sign * row.tolerance, sign) for sign in (-1, 1))
    inside = torch.zeros(len(row.ratio), dtype=torch.bool).index_fill(0, ids, True)
    missing, surplus = int((surely & ~inside).sum()), int((inside & ~perhaps).sum())
    if missing or surplus:
        return f"{missing} of {int(surely.sum())} keys are missing and {surplus} are there that should not be"
    error = (log_p - row.ratio[ids].clamp_max(1.0).log()).abs()
    if len(ids) and not error.max() <= 2 * row.tolerance:
        return f"log_weight differs by {float(error.max()):.2e}, tolerance {2 * row.tolerance:.1e}"
    return None


def _included(row: Row, factor: float, grain: int) -> torch.Tensor:
    """Which keys are drawn if ratios are off by `factor`, and a probability by `grain` steps of random words."""
    if row.drawing.kind == "priority":
        return row.ratio * factor > scanning.uniforms(row.words)
    certain = row.ratio * factor >= 1
    return certain | (row.words < (row.ratio * factor).clamp_max(1.0) * 2.0**31 + grain)
