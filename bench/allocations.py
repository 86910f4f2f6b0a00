"""Bytes that a call asks for, of tensors and of Python and NumPy, and bytes that it keeps of the native heap."""

from __future__ import annotations

import ctypes
import gc
import tracemalloc
from collections.abc import Callable

import torch

from truffle.kernels.memory import memory_use

LEAK_GROUPS, LEAK_CALLS = 3, 32  # malloc keeps up to 7 freed chunks of a size, which hide as many leaks


class _HeapUse(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    ))  # fmt: skip


def allocated_bytes(call: Callable[[], object]) -> int:
    """Of one call, after an untimed one that fills workspaces.

    Tensors are counted on every device, also those that are freed at once. What native code takes from malloc and gives
    back within the call is not: malloc counts what is held, and not what was asked of it.
    """
    call()
    return _tensor_bytes(call) + _python_bytes(call)


def leaked_bytes(call: Callable[[], object]) -> float | None:
    """What a warm call leaves behind of malloc's memory, in all threads, and of the blocks of `kernels.memory`.

    It is the mean over a group of calls, and the least of several groups: caches that grow now and then are no leak.
    None where the C library is not glibc 2.33 or later.
    """
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        return None
    call()
    gc.collect()
    gc.freeze()  # so that later collections see only what calls made, and take no time
    try:
        return max(0, min(_growth(call) for _ in range(LEAK_GROUPS))) / LEAK_CALLS
    finally:
        gc.unfreeze()


def _growth(call: Callable[[], object]) -> int:
    before = _held_bytes()
    for _ in range(LEAK_CALLS):
        call()
    gc.collect()
    return _held_bytes() - before


def _held_bytes() -> int:
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _HeapUse
    use = mallinfo2()
    return use.uordblks + use.hblkhd + memory_use()[0]


def _tensor_bytes(call: Callable[[], object]) -> int:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = profile.events() or ()
    return sum(max(event.self_cpu_memory_usage, 0) + max(event.self_device_memory_usage, 0) for event in events)


def _python_bytes(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
