"""A log axis for KL on which 0 has its own strip at the left, so that dense has a place."""

import math


class KlAxis:
    """Positions in log10 units for `values` (KL, each >= 0); everything at or below 0 shares one position."""

    def __init__(self, values):
        logs = [math.log10(v) for v in values if v > 0] or [-2.0, -1.0]
        pad = max(0.12 * (max(logs) - min(logs)), 0.1)
        self.low, self.high = min(logs) - pad, max(logs) + pad
        span = self.high - self.low
        self.has_zero = any(v <= 0 for v in values)
        self.zero = self.low - 0.09 * span
        self.start = self.low - 0.18 * span if self.has_zero else self.low

    def at(self, kl: float) -> float:
        """Where `kl` lies; a positive value below the drawn range stays at the edge of it."""
        return self.zero if kl <= 0 else max(math.log10(kl), self.low)

    def spread(self, kl: float, low: float | None, high: float | None) -> tuple[float, float]:
        """Lengths of the error bar to the left and to the right, 0 where there is no interval."""
        if kl <= 0 or low is None or high is None:
            return 0.0, 0.0
        left = math.log10(low) if low > 0 else self.low
        return max(0.0, self.at(kl) - max(left, self.low)), max(0.0, math.log10(max(high, kl)) - self.at(kl))

    def ticks(self) -> tuple[list[float], list[str]]:
        """Positions and their words: 1, 2, 5 a decade, or decades alone on a wide range."""
        steps = (1, 2, 5) if self.high - self.low < 2.2 else (1,)
        decades = range(math.floor(self.low), math.ceil(self.high) + 1)
        inside = [(math.log10(m) + e, f"{m * 10.0**e:.10g}") for e in decades for m in steps]
        found = [(at, word) for at, word in inside if self.low <= at <= self.high]
        if self.has_zero:
            found.insert(0, (self.zero, "0"))
        return [at for at, _ in found], [word for _, word in found]
