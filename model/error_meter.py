"""How far each head may be off, as decoding goes: what a layer's own sample says of its error."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch

from truffle.model.config import LshParameters, ScanParameters
from truffle.model.llama import Decoder
from truffle.model.methods.base import LayerCache
from truffle.model.methods.choosing.collisions import Collisions
from truffle.model.methods.choosing.scan import Scanned
from truffle.model.methods.choosing.selector import Errors
from truffle.model.methods.selecting import SelectingLayer


@dataclass
class ErrorMeter:
    """Observes a decoder and collects estimated errors of the layers that do not attend everything.

    Attributes:
        errors: by step, layer and request, of the heads of those that can tell, [Hkv, G] each.
        layers: of which layer each is.
        untold: heads whose layer could not, or whose sample was too small to.
        told: heads that could.
    """

    errors: list[Errors] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    untold: int = 0
    told: int = 0

    def __call__(self, index: int, cache: LayerCache, q: torch.Tensor, *rest: torch.Tensor) -> None:
        if isinstance(cache, SelectingLayer):
            for request in range(len(q)):
                self._count(index, cache, request, q.shape[1])
        elif cache.usage() is not None:
            self.untold += q.shape[0] * q.shape[1]

    def _count(self, index: int, cache: SelectingLayer, request: int, heads: int) -> None:
        if bool((cache.chosen(request).count > 0).all()):  # nothing left out, nothing off
            return
        found = cache.errors(request)
        told = int(found.output.isfinite().sum()) if found else 0
        self.told, self.untold = self.told + told, self.untold + heads - told
        if found:
            self.errors.append(found)
            self.layers.append(index)

    def spread(self, name: str) -> tuple[float, float] | None:
        """Mean and 95th percentile over heads, layers and steps of "output" or "denominator"; None if none is told."""
        if not self.told:
            return None
        values = torch.cat([getattr(errors, name).flatten() for errors in self.errors])
        values = values[values.isfinite()].double()
        return float(values.mean()), float(values.quantile(0.95))

    def by_layer(self) -> dict[int, list[float | None]]:
        """The mean estimate of each head's relative error of the output, by layer; None where it never told."""
        found: dict[int, list[float | None]] = {}
        for layer in dict.fromkeys(self.layers):
            steps = [e.output.flatten() for e, at in zip(self.errors, self.layers, strict=True) if at == layer]
            means = torch.stack([torch.where(step.isfinite(), step, torch.nan) for step in steps]).nanmean(0)
            found[layer] = [None if mean != mean else mean for mean in means.tolist()]
        return found

    def summary(self) -> dict[str, float | int | None]:
        """Relative errors as flat figures."""
        found: dict[str, float | int | None] = {"told": self.told, "untold": self.untold}
        for name in ("output", "denominator"):
            mean, most = self.spread(name) or (None, None)
            found |= {f"{name}_error_mean": mean, f"{name}_error_p95": most}
        return found


def tell_errors(decoder: Decoder) -> ErrorMeter:
    """A meter for a decoder that has read nothing yet, whose `lsh` or `scan` layers are exchanged for ones that tell.

    The kernels that sample quickly do not say which table gave which key, nor keep what they weigh keys by. In their
    place goes the reference layer, which draws the same keys from the same tables or codes, holds them as the model
    gives them, and is slower by far.
    """
    p = decoder.config.parameters
    if isinstance(p, LshParameters | ScanParameters):
        sample = Collisions if isinstance(p, LshParameters) else Scanned
        for layer in range(decoder.shape.layers):
            if layer not in p.dense_layers:
                sampling = partial(sample, p, layer, decoder.shape.head_dim, decoder.ops)
                decoder.caches[layer] = SelectingLayer(p.sink, p.window, p.seed, layer, sampling)
    return ErrorMeter()
