"""A point in a stream where the device waits for the host, so that what follows can be launched ahead of time."""

from __future__ import annotations

import ctypes
import functools

import torch

_AT_LEAST = 0  # CU_STREAM_WAIT_VALUE_GEQ: cyclic, so that a counter may wrap


class Gate:
    """Holds back what is launched behind it until it is opened; launching takes longer than the device's next wait.

    While it is shut nothing may wait for the device: that would never end.
    """

    def __init__(self) -> None:
        self._opened = torch.zeros(1, dtype=torch.int32, pin_memory=True)  # mapped at the same address for the device
        self._flag = self._opened.numpy()
        self._turns = 0

    def shut(self) -> None:
        """Have the current stream wait here."""
        self._turns += 1
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        place = ctypes.c_uint64(self._opened.data_ptr())
        status = _driver().cuStreamWaitValue32_v2(stream, place, ctypes.c_uint32(self._turns & 0xFFFFFFFF), _AT_LEAST)
        if status != 0:
            raise RuntimeError(f"cuStreamWaitValue32: expected status 0, got {status}")

    def open(self) -> None:
        """Let the stream go on."""
        self._flag[0] = (self._turns + 2**31) % 2**32 - 2**31


@functools.cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")
