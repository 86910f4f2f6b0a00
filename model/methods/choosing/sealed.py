"""What the reference of a sampled layer shares: keys are sealed when the layer would seal them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch


class Sealed(ABC):
    """Keys that are taken together, as those of a SampledLayer.

    Those that have come since are open, the last `open` of the keys, and attended with certainty.
    """

    def __init__(self, seal_tokens: int) -> None:
        self._seal_tokens = seal_tokens
        self._waiting: list[torch.Tensor] = []
        self.open = 0

    def add(self, keys: torch.Tensor) -> None:
        if self.open >= self._seal_tokens:
            self._seal()
        self._waiting.append(keys.float())
        self.open += keys.shape[1]
        if keys.shape[1] >= self._seal_tokens:  # a prompt's
            self._seal()

    def _seal(self) -> None:
        keys, self._waiting, self.open = torch.cat(self._waiting, 1), [], 0
        self._take(keys)

    @abstractmethod
    def _take(self, keys: torch.Tensor) -> None:
        """Index keys [Hkv, m, d] behind those there are."""
