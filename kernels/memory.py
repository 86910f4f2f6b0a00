"""Memory for stores and tables: huge pages, spread over the threads' NUMA nodes, and kept for the next request."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from truffle.kernels.linked import shared

try:
    from truffle.kernels import _native as native
except ImportError:  # the stores of the other implementations lie in ordinary memory
    native = None

HUGE_PAGE_BYTES = 2 << 20
CPU = torch.device("cpu")


def allocate(
    shape: Sequence[int],
    dtype: torch.dtype,
    *,
    threads: int = 1,
    pinning: str = "none",
    device: torch.device = CPU,
    linked: bool = False,
) -> torch.Tensor:
    """A contiguous tensor of undefined contents; on a GPU torch's own, or pinned memory of the host as that GPU sees it
    where it is to be `linked`; on the CPU as follows.

    From 2 MiB on its memory is a block of its own in huge pages, where the system has them, and new pages are
    touched first by `threads` in contiguous shares: on a NUMA machine they lie on the nodes of those threads. When
    the tensor and its views are gone the block is kept, and given without page faults to the next tensor that
    needs as much; used and kept blocks never exceed the most that was used at once since `release_memory`.

    Raises:
        MemoryError: the system has no such block.
    """
    size = math.prod(shape) * dtype.itemsize
    if linked and device != CPU and size:
        return shared(shape, dtype, device)[0]
    if device != CPU or native is None or size < HUGE_PAGE_BYTES:
        return torch.empty(*shape, dtype=dtype, device=device)
    return native.allocate(size, threads, pinning).view(dtype).view(*shape)


def release_memory() -> int:
    """Give the kept blocks back to the system; returns their bytes."""
    return native.release_memory() if native else 0


def memory_use() -> tuple[int, int]:
    """Bytes in blocks that tensors use, and in blocks that are kept for later ones."""
    return native.memory_use() if native else (0, 0)
