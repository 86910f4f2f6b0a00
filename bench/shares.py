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
            densities.append((usage.attended / usage.cached[:, None]).mean())
        rows.append((cache.rows() / usage.tokens[:, None]).mean())
    return {name: float(torch.stack(found).mean()) if found else None
            for name, found in (("density", densities), ("rows", rows))}  # fmt: skip
