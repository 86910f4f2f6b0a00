"""Prompts in two parts: what stays on the host as it was read, and what the device keeps beside all decoded tokens."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Self

import torch

from truffle.model.background import Later, at_once
from truffle.model.cache import ExactCache
from truffle.model.methods.base import Usage
from truffle.model.operations import Operations


class SplitLayer(ABC):
    """A LayerCache of one batch of prompts, of which the device keeps the first `sink` and the last `resident` tokens.

    Every layer is split at the same place, rather than some layers kept whole: the device then has work in each layer
    while the host's part is under way, which comes at an even pace and needs the least room in flight.

    It is ready when `prefill` returns: nothing is left for later.

    Attributes:
        hosted: tokens of each prompt on the host, from `sink` on.
    """

    def __init__(self, resident: int, ops: Operations, sink: int = 0) -> None:
        self._resident, self._sink, self._ops = resident, sink, ops

    def prefill(self, keys: list[torch.Tensor], values: list[torch.Tensor], later: Later = at_once) -> None:
        self.hosted = [max(0, part.shape[1] - self._sink - self._resident) for part in keys]
        self._exact = ExactCache(self._kept(keys), self._kept(values))
        self._host(self._given_away(keys), self._given_away(values))

    def _kept(self, parts: list[torch.Tensor]) -> list[torch.Tensor]:
        ends = [self._sink + hosted for hosted in self.hosted]
        pairs = zip(parts, ends, strict=True)
        return [torch.cat([part[:, : self._sink], part[:, end:]], 1) if self._sink else part[:, end:]
                for part, end in pairs]  # fmt: skip

    def _given_away(self, parts: list[torch.Tensor]) -> list[torch.Tensor]:
        return [part[:, self._sink : self._sink + hosted] for part, hosted in zip(parts, self.hosted, strict=True)]

    @abstractmethod
    def _host(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        """Take what lies on the host, one [Hkv, n, d] a request."""

    def twin(self, layer: int) -> Self:
        """Another layer, that numbered `layer`, with the same contents, of which the host's part is shared."""
        other = copy.copy(self)
        other._exact = self._exact.twin()
        return other

    def admit(self, keys: list[torch.Tensor], values: list[torch.Tensor], later: Later = at_once) -> None:
        raise NotImplementedError("a rival decodes the batch that it was given")

    def keep(self, requests: list[int]) -> None:
        raise NotImplementedError("a rival decodes the batch that it was given")

    def make_room(self) -> bool:
        return self._exact.grow()

    def count_token(self) -> None:
        self._exact.count_token()

    def rewind(self) -> None:
        self._exact.rewind()

    def decode(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("a rival decodes in a pipeline")

    def usage(self) -> Usage | None:
        return None

    def rows(self) -> torch.Tensor:
        tokens = torch.tensor(self._exact.lengths) + torch.tensor(self.hosted)
        return tokens[:, None].repeat(1, self._exact.keys.shape[1])

    @property
    def host_bytes(self) -> int:
        """What the host holds of the prompts, which every step of an exact rival reads."""
        kv_heads, d = self._exact.keys.shape[1], self._exact.keys.shape[3]
        return 2 * sum(self.hosted) * kv_heads * d * self._exact.keys.element_size()

    @property
    def memory_bytes(self) -> int:
        return self._exact.memory_bytes + self.host_bytes
