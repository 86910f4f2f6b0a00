"""What crosses the link between host and device, and how the host learns that it has arrived."""

from __future__ import annotations

import math

import torch

_ALIGNMENT_BYTES = 256

Fields = dict[str, tuple[tuple[int, ...], torch.dtype]]


def host_twin(there: torch.Tensor) -> torch.Tensor:
    """Pinned memory of the same form on the host, contents undefined; the tensor itself where it is there already."""
    return there if there.device.type == "cpu" else torch.empty(there.shape, dtype=there.dtype, pin_memory=True)


def start_copy(source: torch.Tensor, target: torch.Tensor) -> None:
    """Copy between a tensor and its twin, in the order of the current stream."""
    if source is not target:
        target.copy_(source, non_blocking=True)


class Mail:
    """Tensors that the device sends to the host in one copy.

    Nothing guards the host's half: whoever reads it must know that the copy is over, and no next one begun.

    Attributes:
        here: by name, on the host.
        there: by name, on the device.
        nbytes: of a copy.
    """

    def __init__(self, device: torch.device, fields: Fields) -> None:
        """Undefined contents; `fields` gives each tensor's shape and dtype by name."""
        ends = [0]
        for shape, dtype in fields.values():
            size = math.prod(shape) * dtype.itemsize
            ends.append(ends[-1] + -(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES)
        self.nbytes = ends[-1]
        self._there = torch.empty(self.nbytes, dtype=torch.uint8, device=device)
        self._here = host_twin(self._there)
        self.here, self.there = (_views(block, fields, ends) for block in (self._here, self._there))

    def send(self) -> None:
        """Start the copy, in the order of the current stream."""
        start_copy(self._there, self._here)


def _views(block: torch.Tensor, fields: Fields, starts: list[int]) -> dict[str, torch.Tensor]:
    found = {}
    for start, (name, (shape, dtype)) in zip(starts, fields.items(), strict=False):
        size = math.prod(shape) * dtype.itemsize
        found[name] = block[start : start + size].view(dtype).view(shape)
    return found


class Arrival:
    """A point in the current stream's order that the host can wait for. On the CPU everything has arrived."""

    def __init__(self, device: torch.device) -> None:
        self._event = torch.cuda.Event() if device.type == "cuda" else None

    def mark(self) -> None:
        """Set the point behind all that was launched so far."""
        if self._event is not None:
            self._event.record()

    def wait(self) -> None:
        """Return when all before the point is over. Looks again and again: a thread that sleeps wakes too late."""
        if self._event is not None:
            while not self._event.query():
                pass
