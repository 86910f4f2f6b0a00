"""How large the operations of one attention layer are when they are timed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from truffle.bench import synthetic
from truffle.model.config import PAPER_DEFAULT, Probing


@dataclass(frozen=True)
class Sizes:
    """Sizes of one attention layer; requests of a batch share one store and one index, read by own queries.

    Attributes:
        dtype: of the store's rows.
        deviation: of the cosines of queries and keys.
        bits: of the codes of a scan, a coordinate.
        wanted: share of the keys that a scan is to draw, without its floor.
        per_group: whether the heads of a key/value head share a scan's sample.
    """

    context: int
    heads: int
    kv_heads: int
    head_dim: int
    K: int
    L: int
    min_hits: int = 2
    batch: int = 1
    seed: int = 0
    dtype: torch.dtype = torch.bfloat16
    probing: Probing = PAPER_DEFAULT.probing
    deviation: float = synthetic.COSINE_DEVIATION
    bits: int = 4
    wanted: float = 0.01
    per_group: bool = True

    @property
    def given_dtype(self) -> torch.dtype:
        """Of queries, keys and values as a model gives them."""
        return torch.bfloat16 if self.dtype == torch.int8 else self.dtype
