"""Brings chunks of host memory to the device, one after another, a few ahead of whoever reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

DEPTH = 3  # chunks on the device: one is read, one has arrived or arrives, one may start before the first is given back


class Conveyor:
    """Chunks that every step needs in the same order, through DEPTH buffers of one chunk each.

    Copies run in a stream of their own, each from when its buffer's former chunk has been read; so the next layer's
    chunks arrive while this one computes. A step starts with its first chunks and leaves nothing on its way, so it
    can be captured. On the CPU a copy is over when it is started.
    """

    def __init__(self, device: torch.device) -> None:
        self._chunks: dict[int, list[torch.Tensor]] = {}
        self._order: list[torch.Tensor] = []
        self._turn = 0
        self._staged: list[torch.Tensor] = []
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._events = [torch.cuda.Event() for _ in range(DEPTH)] if self._stream else []

    def carry(self, layer: int, chunks: list[torch.Tensor]) -> None:
        """Have a layer read these chunks, all of one shape, in every step; layers follow one another by number."""
        self._chunks[layer] = chunks
        self._order = [chunk for index in sorted(self._chunks) for chunk in self._chunks[index]]
        if chunks and not self._staged:
            self._staged = [
                torch.empty(chunks[0].shape, dtype=chunks[0].dtype, device=self._device) for _ in range(DEPTH)
            ]

    @contextmanager
    def next(self) -> Iterator[torch.Tensor]:
        """The next chunk on the device, for as long as the block lasts."""
        if self._turn == 0:
            for turn in range(min(DEPTH, len(self._order))):
                self._start(turn)
        if self._stream:
            torch.cuda.current_stream().wait_event(self._events[self._turn % DEPTH])
        yield self._staged[self._turn % DEPTH]
        if self._turn + DEPTH < len(self._order):
            self._start(self._turn + DEPTH)
        self._turn = (self._turn + 1) % len(self._order)

    def _start(self, turn: int) -> None:
        target, chunk = self._staged[turn % DEPTH], self._order[turn]
        if self._stream is None:
            target.copy_(chunk)
            return
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            target.copy_(chunk, non_blocking=True)
            self._events[turn % DEPTH].record(self._stream)
