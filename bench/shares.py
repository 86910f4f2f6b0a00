"""What share of the keys a step read."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from truffle.model.methods.base import LayerCache


def read_shares(caches: Iterable[LayerCache]) -> dict[str, float | None]:
    """`density` and `rows` of the last step, means over heads and over layers that do not attend everything.

    None where there is no such layer, and no density where nothing is cached outside sink and window.
    """
    densities, rows = [], []
    for cache in caches:
        usage = cache.usage()
        if usage is None:
            continue
        if usage.cached.min() > 0:
            densities.append(_share(usage.attended, usage.cached))
        rows.append(_share(cache.rows(), usage.tokens))
    return {name: float(torch.stack(found).mean()) if found else None
            for name, found in (("density", densities), ("rows", rows))}  # fmt: skip


def _share(read: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Mean over requests and heads, where the keys were counted: a sum over layers waits for the device once."""
    return (read / there[:, None].to(read.device)).mean()
