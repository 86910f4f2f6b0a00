"""What is copied over the link between host and device, and how the host learns that it has arrived."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

PIECE_BYTES = 32 << 20


class Arrival:
    """A point in the current stream's order that the host can wait for. On the CPU everything has arrived."""

    def __init__(self, device: torch.device, asleep: bool = False) -> None:
        """Who waits `asleep` leaves processor and interpreter to others, and wakes late: for what takes long."""
        self._asleep = asleep
        self._event = torch.cuda.Event(blocking=asleep) if device.type == "cuda" else None

    def mark(self) -> None:
        """Set the point behind all that was launched so far."""
        if self._event is not None:
            self._event.record()

    def wait(self) -> None:
        """Return when all before the point is over: looking again and again, or asleep."""
        if self._event is None:
            return
        if self._asleep:
            self._event.synchronize()
        while not self._event.query():
            pass


class Courier:
    """Copies what the device has made to ordinary memory of the host, through two pinned pieces in turn.

    On the CPU the pieces are ordinary memory, and all else is the same.

    Attributes:
        waited_s: seconds it has slept until a piece was there, since it was made.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pieces: list[torch.Tensor] = []
        self._stream: Any = None
        self.waited_s = 0.0

    def carry(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Copy a contiguous source [R, ...] that is finished to a target on the host whose parts [...] are contiguous.

        Runs on a stream of its own, beside what the device does, and returns when all is copied. To a target on the
        device itself it is an ordinary copy, launched in the order of the current stream.
        """
        if target.is_cuda:
            target.copy_(source)
            return
        landing: tuple[torch.Tensor, torch.Tensor, Arrival] | None = None
        with self._beside():
            for turn, (there, here) in enumerate(_in_pieces(source, target)):
                piece = self._room(turn % 2, there.nbytes).view(there.dtype)
                piece.copy_(there, non_blocking=True)
                arrival = Arrival(self._device, asleep=True)
                arrival.mark()
                self._land(landing)
                landing = piece, here, arrival
            self._land(landing)

    def _land(self, landing: tuple[torch.Tensor, torch.Tensor, Arrival] | None) -> None:
        if landing is not None:
            piece, here, arrival = landing
            started = time.perf_counter()
            arrival.wait()
            self.waited_s += time.perf_counter() - started
            here.copy_(piece)

    def _beside(self) -> AbstractContextManager[Any]:
        if self._device.type != "cuda":
            return nullcontext()
        self._stream = self._stream or torch.cuda.Stream(self._device)
        return torch.cuda.stream(self._stream)

    def _room(self, turn: int, size: int) -> torch.Tensor:
        """`size` bytes of a piece; both grow to the largest that was asked for."""
        if not self._pieces or self._pieces[0].nbytes < size:
            pinned = self._device.type == "cuda"
            with torch.inference_mode(False):  # whoever comes next may not be inferring
                self._pieces = [torch.empty(size, dtype=torch.uint8, pin_memory=pinned) for _ in range(2)]
        return self._pieces[turn][:size]


def _in_pieces(source: torch.Tensor, target: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    count = PIECE_BYTES // source.itemsize
    parts = zip(source.flatten(1), target, strict=True)
    return itertools.chain.from_iterable(
        zip(there.split(count), here.view(-1).split(count), strict=True) for there, here in parts
    )
