"""Constants of the fast conditional law: where it is computed, its normal tails there, and how it is interpolated."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from truffle.kernels.collision import TABLE_CELLS
from truffle.kernels.directed import MOST_MARGIN

HALF_KNOTS = 32  # agreements 1/2 +- (i + 1/2) / 64: a pair shares |cot(theta)|, hence its tails
STENCIL = 8  # knots that a cell is interpolated from
STEPS_A_UNIT = 256  # of the margin


@dataclass(frozen=True)
class LawKnots:
    """Arrays of float32, read only.

    Attributes:
        tails: Phi(-z cot_i) for margins z = row / STEPS_A_UNIT, [rows, HALF_KNOTS], to be interpolated linearly;
            the relative error is below ``(cot / STEPS_A_UNIT)^2 / 8``, 2e-6 where the agreement is 1/4.
        weights: Lagrange's of each cell between two knots, [STENCIL, cells a knot].
    """

    tails: np.ndarray
    weights: np.ndarray


@functools.cache
def law_knots() -> LawKnots:
    """The constants, 200 KB, made once."""
    cot = torch.tan(torch.pi * (torch.arange(HALF_KNOTS).double() + 0.5) / (2 * HALF_KNOTS))
    margins = torch.arange(int(MOST_MARGIN) * STEPS_A_UNIT + 2).double() / STEPS_A_UNIT
    tails = torch.special.ndtr(-margins[:, None] * cot).numpy()
    cells = TABLE_CELLS // (2 * HALF_KNOTS)
    places = np.arange(cells) / cells
    found = LawKnots(tails.astype(np.float32), _lagrange(places).astype(np.float32))
    for array in (found.tails, found.weights):
        array.setflags(write=False)
    return found


def _lagrange(places: np.ndarray) -> np.ndarray:
    """Weights [STENCIL, len(places)] for places in [0, 1] between the two middle knots."""
    knots = np.arange(STENCIL) - (STENCIL // 2 - 1)
    others = [np.delete(knots, i) for i in range(STENCIL)]
    return np.stack([np.prod((places[:, None] - o) / (knots[i] - o), axis=1) for i, o in enumerate(others)])
