"""Work of the host that the device does not wait for, on a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

import torch

Work = Callable[[], None]
Later = Callable[[Work], None]

UNFINISHED = 2


def at_once(work: Work) -> None:
    """Do it now."""
    work()


def beside(device: torch.device) -> AbstractContextManager[Later]:
    """Takes work: on a GPU to be done beside the device's, all of it by the end of the block; at once on the CPU."""
    return nullcontext(at_once) if device.type == "cpu" else Background()


class Background(AbstractContextManager["Background"]):
    """One thread that does pieces of work in the order they come, UNFINISHED of them under way at most.

    What a piece raises is raised by a later call or at the end of the block, and what has not begun is dropped.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "truffle-background")
        self._unfinished: deque[Future[None]] = deque()

    def __call__(self, work: Work) -> None:
        """Take a piece of work; returns when one more may come."""
        self._finish_but(UNFINISHED - 1)
        self._unfinished.append(self._thread.submit(_inferring, work))

    def _finish_but(self, count: int) -> None:
        while len(self._unfinished) > count:
            self._unfinished.popleft().result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish_but(0)
        finally:
            self._thread.shutdown(cancel_futures=True)


def _inferring(work: Work) -> None:
    with torch.inference_mode():  # a thread's own state
        work()
