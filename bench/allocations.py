"""Bytes that a call asks for: those of tensors, and the most that Python and NumPy hold at once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import torch


def allocated_bytes(call: Callable[[], object]) -> int:
    """Of one call, after an untimed one that fills workspaces.

    Tensors are counted on every device, also those that are freed at once; what native code takes from malloc is not.
    """
    call()
    return _tensor_bytes(call) + _python_bytes(call)


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
