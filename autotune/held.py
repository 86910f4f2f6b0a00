"""Holds this process to a limit on the GPU's memory, so that whatever is run here would run on a card as small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from truffle.bench.vram import limit_vram


class Held:
    """This process's part of the current GPU, from now on: who asks for more gets torch.OutOfMemoryError.

    Attributes:
        own_bytes: what is left of the limit for tensors.
    """

    def __init__(self, limit_bytes: int, weights_bytes: int) -> None:
        """Raises ArgumentError where the weights do not fit."""
        self._total = torch.cuda.mem_get_info()[1]
        self.own_bytes = limit_vram(min(limit_bytes, self._total), weights_bytes)

    @contextmanager
    def without(self, absent_bytes: int) -> Iterator[None]:
        """Allow so much less meanwhile: what the whole model would take beside the layers that are built."""
        self._allow(self.own_bytes - absent_bytes)
        try:
            yield
        finally:
            self._allow(self.own_bytes)

    def _allow(self, size: int) -> None:
        torch.cuda.set_per_process_memory_fraction(max(0, size) / self._total)
