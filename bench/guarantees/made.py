"""Queries and keys without a model: scattered evenly, or around a few centres, where keys err together."""

from __future__ import annotations

from typing import Literal

import torch

from truffle.bench.guarantees.positions import Position
from truffle.model.methods.choosing.selector import View

KV_HEADS, GROUP, D, FIXED = 3, 3, 64, 68
VALUE_MEAN = 0.5  # of every coordinate, so that outputs are not nothing
CENTRES, SHARE = 16, 0.6  # of a key's square length that is its centre's

Kind = Literal["isotropic", "clustered"]


def made_positions(kind: Kind, n: int, count: int) -> list[Position]:
    """`count` independent layers of n keys that may be chosen; scores are N(0, 1) about the centres' own."""
    return [Position(f"{kind} {seed}", {0: _view(kind, n, seed)}) for seed in range(count)]


def _view(kind: Kind, n: int, seed: int) -> View:
    generator = torch.Generator().manual_seed(seed)
    q = torch.nn.functional.normalize(torch.randn(KV_HEADS, GROUP, D, generator=generator), dim=-1) * D**0.5
    keys, values = torch.randn(2, KV_HEADS, n + FIXED, D, generator=generator)
    values += VALUE_MEAN
    if kind == "clustered":
        centres = torch.randn(KV_HEADS, CENTRES, D, generator=generator)
        of = torch.randint(CENTRES, (n + FIXED,), generator=generator)
        keys = SHARE**0.5 * centres[:, of] + (1 - SHARE) ** 0.5 * keys
    return View(q, keys[:, FIXED:], values[:, FIXED:], keys[:, :FIXED], values[:, :FIXED])
