"""A point in a program where the device waits for the host, so that what follows can be launched ahead of time."""

from __future__ import annotations

import importlib.util

import torch


class Gate:
    """Holds back what follows it in a captured program until it is opened.

    Launching a part when the host has answered takes longer than opening does, and so does a wait between two launches
    (cuStreamWaitValue32 took 7 us more than a kernel that looks). Between the launch of a `hold` and its `open`
    nothing may wait for the device: that would never end.
    """

    def __init__(self) -> None:
        from truffle.kernels.wait_for_host import wait_for_host

        self._wait = wait_for_host
        self._opened = torch.zeros(1, dtype=torch.int32, pin_memory=True)  # mapped at the same address for the device
        self._flag = self._opened.numpy()
        self._turn = torch.zeros(1, dtype=torch.int32, device="cuda")
        self._turns = 0
        self.open()
        self.hold()  # compiles; a capture could not

    def hold(self) -> None:
        """Have the current stream wait here for one more `open`."""
        self._wait(self._opened, self._turn)

    def open(self) -> None:
        """Let the stream go on."""
        self._turns += 1
        self._flag[0] = (self._turns + 2**31) % 2**32 - 2**31


def usable(device: torch.device) -> bool:
    """Whether there can be gates on the device."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None
