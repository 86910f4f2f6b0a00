"""Exact attention over everything."""

from __future__ import annotations

import torch

from truffle.model.background import Later, at_once
from truffle.model.cache import ALL, ExactCache
from truffle.model.operations import Operations


class DenseLayer:
    """A DeviceLayer that forgets nothing."""

    def __init__(self, ops: Operations) -> None:
        self._ops = ops

    def prefill(self, keys: list[torch.Tensor], values: list[torch.Tensor], later: Later = at_once) -> None:
        self._cache = ExactCache(keys, values)

    def admit(self, keys: list[torch.Tensor], values: list[torch.Tensor], later: Later = at_once) -> None:
        self._cache.extend(keys, values)

    def make_room(self) -> bool:
        return self._cache.grow()

    def count_token(self) -> None:
        self._cache.count_token()

    def rewind(self) -> None:
        self._cache.rewind()

    def attend(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: slice = ALL) -> torch.Tensor:
        self._cache.append(keys, values, rows)
        out, lse = q.new_empty(q.shape, dtype=torch.float32), q.new_empty(q.shape[:2], dtype=torch.float32)
        self._cache.attend(q, self._ops, out, lse, rows)
        return out

    def decode(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        self.make_room()
        self.count_token()
        return self.attend(q, keys, values)

    def contents(self, request: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a request, [Hkv, n, d] each, views that later steps leave as they are."""
        n = self._cache.lengths[request]
        return self._cache.keys[request, :, :n], self._cache.values[request, :, :n]

    def keep(self, requests: list[int]) -> None:
        self._cache.keep(requests)

    def usage(self) -> None:
        return None

    def rows(self) -> torch.Tensor:
        return torch.tensor(self._cache.lengths)[:, None].repeat(1, self._cache.keys.shape[1])

    @property
    def memory_bytes(self) -> int:
        return self._cache.memory_bytes
