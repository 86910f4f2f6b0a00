"""Sink and window only: StreamingLLM (arXiv 2309.17453) on keys that keep their positions."""

from __future__ import annotations

import torch

from truffle.model.background import Later, at_once
from truffle.model.cache import ALL, ExactCache
from truffle.model.config import StreamingParameters
from truffle.model.methods.base import Usage
from truffle.model.operations import Operations


class StreamingLayer:
    """A DeviceLayer of `sink` first and `window` latest tokens; the window is a ring."""

    def __init__(self, parameters: StreamingParameters, ops: Operations) -> None:
        self._sink, self._window = parameters.sink, parameters.window
        self._ops = ops

    def prefill(self, keys: list[torch.Tensor], values: list[torch.Tensor], later: Later = at_once) -> None:
        self._seen: list[int] = []
        self._cache = ExactCache(*self._kept_of(keys, values), capacity=self._sink + self._window)
        self._see(keys)

    def admit(self, keys: list[torch.Tensor], values: list[torch.Tensor], later: Later = at_once) -> None:
        self._cache.extend(*self._kept_of(keys, values))
        self._see(keys)

    def _see(self, keys: list[torch.Tensor]) -> None:
        self._seen = self._seen + [part.shape[1] for part in keys]
        self._count_anew()

    def _count_anew(self) -> None:
        self._seen_there = torch.tensor(self._seen, dtype=torch.int64, device=self._cache.keys.device)

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

    def make_room(self) -> bool:
        return False

    def count_token(self) -> None:
        self._seen = [seen + 1 for seen in self._seen]
        self._cache.lengths = [min(seen, self._cache.capacity) for seen in self._seen]

    def rewind(self) -> None:
        self._seen_there.copy_(torch.tensor(self._seen))
        self._cache.rewind()

    def attend(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: slice = ALL) -> torch.Tensor:
        seen = self._seen_there[rows]
        ring = self._sink + (seen - self._sink) % self._window
        self._cache.put(torch.where(seen < self._cache.capacity, seen, ring), keys, values, rows)
        seen.add_(1)
        self._cache.in_use[rows].copy_(seen.clamp_max(self._cache.capacity))
        out, lse = q.new_empty(q.shape, dtype=torch.float32), q.new_empty(q.shape[:2], dtype=torch.float32)
        self._cache.attend(q, self._ops, out, lse, rows)
        self._heads = q.shape[1]
        return out

    def decode(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        self.count_token()
        return self.attend(q, keys, values)

    def keep(self, requests: list[int]) -> None:
        self._cache.keep(requests)
        self._seen = [self._seen[request] for request in requests]
        self._count_anew()

    def usage(self) -> Usage:
        seen = torch.tensor(self._seen)
        outside = (seen - self._sink - self._window).clamp_min(0)
        return Usage(torch.zeros(len(seen), self._heads, dtype=torch.int64), outside, seen)

    def rows(self) -> torch.Tensor:
        return torch.tensor(self._cache.lengths)[:, None].repeat(1, self._cache.keys.shape[1])

    @property
    def memory_bytes(self) -> int:
        return self._cache.memory_bytes
