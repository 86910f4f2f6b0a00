"""Work that is launched in parts, again and again: captured as CUDA graphs, or run anew each time."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch

# A function that launches a part of its work whenever its iterator is asked for the next.
Program = Callable[[], Iterator[None]]


class Script(Protocol):
    """A program's parts, in order."""

    def begin(self) -> None:
        """Start from the first part again."""
        ...

    def advance(self) -> None:
        """Launch the next part."""
        ...


class EagerScript:
    """Runs the program anew."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def begin(self) -> None:
        self._parts = self._program()

    def advance(self) -> None:
        next(self._parts, None)


class CapturedScript:
    """Replays the program's parts, each captured once as a CUDA graph.

    The program must have been rehearsed. What it allocates lies in
    one pool, where a part's tensors may take the place of those that no later part reads: parts are to be launched
    in order, and programs that take turns each have their own script.
    """

    def __init__(self, program: Program) -> None:
        torch.cuda.synchronize()
        pool, parts = torch.cuda.graph_pool_handle(), program()
        self.graphs: list[torch.cuda.CUDAGraph] = []
        with torch.cuda.stream(_capture_stream()), _uncollected():
            while _captured(parts, pool, self.graphs):
                pass
        torch.cuda.synchronize()

    def begin(self) -> None:
        self._next = 0

    def advance(self) -> None:
        self.graphs[self._next].replay()
        self._next += 1


def rehearse(program: Program) -> None:
    """Launch all parts once where they will be captured: compiles and loads kernels, and makes libraries' scratch."""
    torch.cuda.synchronize()
    with torch.cuda.stream(_capture_stream()):
        for _ in program():
            pass
    torch.cuda.synchronize()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Garbage may hold other graphs, and the end of one would break off the capture of another."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _captured(parts: Iterator[None], pool: Any, graphs: list[torch.cuda.CUDAGraph]) -> bool:
    """Capture the next part; returns whether there may be another."""
    graph = torch.cuda.CUDAGraph()
    # As torch.cuda.graph does, without its collecting garbage and emptying caches for every part. Other threads may
    # call CUDA meanwhile.
    graph.capture_begin(pool=pool, capture_error_mode="thread_local")
    try:
        more = next(parts, parts) is not parts
    finally:
        graph.capture_end()
    graphs.append(graph)
    return more


_stream: torch.cuda.Stream | None = None


def _capture_stream() -> torch.cuda.Stream:
    """One for all captures: libraries keep a workspace a stream."""
    global _stream
    if _stream is None:
        _stream = torch.cuda.Stream()
    return _stream
