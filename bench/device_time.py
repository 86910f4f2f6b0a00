"""What calls take on a CUDA device by itself: one after another in a graph, as a decoder replays them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from truffle.bench.device_bandwidth import on_device_s
from truffle.bench.timing import TURN_CALLS, quantiles_us


def device_times_us(call: Callable[[], object], seconds: float) -> dict[str, Any]:
    """device_median_us, device_p20_us and device_p80_us of a call, or `device_time` with why it cannot be captured.

    `call` has run before and does not wait for the device.
    """
    try:
        graph = _captured(call)
    except RuntimeError as error:
        torch.cuda.synchronize()
        return {"device_time": f"not captured: {str(error).splitlines()[0]}"}
    each = [duration / TURN_CALLS for duration in on_device_s(graph.replay, seconds)]
    return {f"device_{name}": time for name, time in quantiles_us(each).items()}


def waiting(call: Callable[[], object]) -> Callable[[], None]:
    """`call`, until the device has done what it asked for."""

    def run() -> None:
        call()
        torch.cuda.synchronize()

    return run


def _captured(call: Callable[[], object]) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(TURN_CALLS):
            call()
    return graph
