"""How many keys each head attends, as decoding goes: a method's budget, by head."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from truffle.model.methods.base import LayerCache


@dataclass
class HeadMeter:
    """Observes a decoder and adds up what query heads of sparse layers attend outside sink and window.

    Attributes:
        totals: keys by layer, float64 [H], summed over requests and steps; where they were counted.
        counts: requests and steps by layer.
    """

    totals: dict[int, torch.Tensor] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)

    def __call__(self, index: int, cache: LayerCache, *tensors: torch.Tensor) -> None:
        usage = cache.usage()
        if usage is None:
            return
        attended = usage.attended.double()
        self.totals[index] = attended.sum(0) + self.totals.get(index, 0.0)
        self.counts[index] = len(attended) + self.counts.get(index, 0)

    def by_layer(self) -> dict[int, list[float]]:
        """Keys a step of each head, by layer; none of layers that attend everything."""
        return {layer: (total / self.counts[layer]).tolist() for layer, total in self.totals.items()}

    def line(self) -> str | None:
        """What heads attend in words; None where every layer attends everything."""
        found = [(keys, layer, head) for layer, heads in self.by_layer().items() for head, keys in enumerate(heads)]
        if not found:
            return None
        found.sort()
        (least, *_), (middle, *_), (most, layer, head) = found[0], found[len(found) // 2], found[-1]
        return f"{least:,.0f} to {most:,.0f} keys a head (layer {layer}, head {head}), {middle:,.0f} in the median"
