"""Memory of the host that a device reads and writes over the link."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def shared(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Memory of the host that the device reads and writes over the link: as the device sees it, and as the host.

    Contents are undefined; on the CPU both are one tensor. It is for what is touched once, of which a copy would take
    longer: nothing is cached. Nothing guards it: who reads must know that the writer is done.
    """
    if device.type == "cpu":
        both = torch.empty(*shape, dtype=dtype)
        return both, both
    here = torch.empty(math.prod(shape) * dtype.itemsize, dtype=torch.uint8, pin_memory=True)
    there = torch.as_tensor(_SeenByDevice(here), device=device)
    assert there.data_ptr() == here.data_ptr()
    there, here = (block.view(dtype).view(*shape) for block in (there, here))
    return there, here


class _SeenByDevice:
    """Pinned bytes as torch takes them for a device's, which has them at the same address."""

    def __init__(self, here: torch.Tensor) -> None:
        self.__cuda_array_interface__ = {
            "shape": tuple(here.shape), "typestr": "|u1", "data": (here.data_ptr(), False), "version": 2,
        }  # fmt: skip
        self._here = here  # lives as long
