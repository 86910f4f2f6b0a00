"""Sink and window only: StreamingLLM (arXiv 2309.17453) on keys that keep their positions."""

from __future__ import annotations

import torch

from truffle.model.cache import ExactCache
from truffle.model.config import StreamingParameters
from truffle.model.methods.base import Usage
from truffle.model.operations import Operations


class StreamingLayer:
    """A LayerCache of `sink` first and `window` latest tokens; the window is a ring."""

    def __init__(self, parameters: StreamingParameters, ops: Operations) -> None:
        self._sink, self._window = parameters.sink, parameters.window
        self._ops = ops

    def prefill(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        self._seen = [part.shape[1] for part in keys]
        self._cache = ExactCache(*self._kept_of(keys, values), spare=self._window)

    def admit(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        self._seen = self._seen + [part.shape[1] for part in keys]
        self._cache.extend(*self._kept_of(keys, values))

    def _kept_of(self, *sides: list[torch.Tensor]) -> list[list[torch.Tensor]]:
        return [[self._kept(part) for part in side] for side in sides]

    def _kept(self, part: torch.Tensor) -> torch.Tensor:
        """Sink and window of [Hkv, n, d], each window token in its slot of the ring."""
        n = part.shape[1]
        if n <= self._sink + self._window:
            return part
        recent = torch.arange(n - self._window, n, device=part.device)
        slots = torch.empty_like(recent)
        slots[(recent - self._sink) % self._window] = recent
        return torch.cat([part[:, : self._sink], part[:, slots]], dim=1)

    def decode(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        slots = [self._slot(seen) for seen in self._seen]
        self._cache.put(slots, keys, values)
        self._seen = [seen + 1 for seen in self._seen]
        self._heads = q.shape[1]
        return self._cache.attend(q, self._ops)[0]

    def _slot(self, seen: int) -> int:
        if seen < self._sink + self._window:
            return seen
        return self._sink + (seen - self._sink) % self._window

    def keep(self, requests: list[int]) -> None:
        self._cache.keep(requests)
        self._seen = [self._seen[request] for request in requests]

    def usage(self) -> Usage:
        seen = torch.tensor(self._seen)
        outside = (seen - self._sink - self._window).clamp_min(0)
        return Usage(torch.zeros(len(seen), self._heads, dtype=torch.int64), outside, seen)

    def rows(self) -> torch.Tensor:
        return torch.tensor(self._cache.lengths)[:, None].repeat(1, self._cache.keys.shape[1])

    @property
    def memory_bytes(self) -> int:
        return self._cache.memory_bytes
