"""Seeded times of paired rounds, as a quiet machine gives them, one that warms up, and ones that others use too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TURNS = 5


@dataclass(frozen=True)
class Noise:
    """How times vary: standard deviations of logs by process and by turn, a drift of the log over the whole stage, and
    the share of turns that others make 1.5 to 4 times as long."""

    process: float
    turn: float
    drift: float = 0.0
    bursts: float = 0.0

    def streams(
        self, generator: np.random.Generator, slowdown: float, names: Sequence[str], rounds: int
    ) -> dict[str, list]:
        """Turns of base, candidate and control by benchmark and round, the candidate `slowdown` times as slow."""
        shape = (len(names), rounds, TURNS, 3)
        logs = generator.normal(0.0, self.process, (len(names), rounds, 1, 3)) + generator.normal(0.0, self.turn, shape)
        logs += np.linspace(0.0, self.drift, rounds * TURNS).reshape(1, rounds, TURNS, 1)
        hit = generator.random(shape) < self.bursts
        logs += np.where(hit, np.log(generator.uniform(1.5, 4.0, shape)), 0.0)
        logs[..., 1] += np.log(slowdown)
        return dict(zip(names, np.exp(logs).tolist(), strict=True))


CALM = Noise(0.01, 0.02)
USUAL = Noise(0.03, 0.05)
DRIFTING = Noise(0.03, 0.05, drift=1.0)
BURSTS = Noise(0.03, 0.05, bursts=0.2)
NOISY = Noise(0.1, 0.2, bursts=0.2)
