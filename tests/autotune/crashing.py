"""A bench that does to its process what kernels may do to it, by the number of tables that it is asked about."""

from __future__ import annotations

import ctypes
import os
import signal
import time

import torch

from tests.autotune.fakes import Bench
from truffle.autotune.measuring import Fidelity, Measured
from truffle.model.config import DecodeConfig

SEGFAULT, KILLED, HANGS, NO_MEMORY, NAN, SPOILT, RAISES, SEGFAULT_BESIDE = range(20, 28)


class Crashing(Bench):
    def measure(self, config: DecodeConfig, fidelity: Fidelity, repeat: int = 0) -> Measured:
        tables = getattr(config.parameters, "L", 0)
        if tables in (SEGFAULT, KILLED):
            os.kill(os.getpid(), signal.SIGSEGV if tables == SEGFAULT else signal.SIGKILL)
        if tables == SEGFAULT_BESIDE:  # a thread that is none of Python's, and runs what is no code
            ctypes.CDLL(None).pthread_create(ctypes.byref(ctypes.c_ulong()), None, ctypes.c_void_p(8), None)
        if tables in (HANGS, SEGFAULT_BESIDE):
            time.sleep(600)
        if tables == NO_MEMORY:
            raise torch.OutOfMemoryError("tried to allocate 99 GiB")
        if tables == SPOILT:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if tables == RAISES:
            raise RuntimeError("cpu_native failed its gate")
        found = super().measure(config, fidelity, repeat)
        pid = {"ms_link": float(os.getpid())} | ({"kl": float("nan")} if tables == NAN else {})
        return Measured({**found.figures, **pid}, found.seconds, {"step_ms": [1.0, 2.0]})


def make() -> Crashing:
    return Crashing()


def refuse(reason: str) -> Crashing:
    raise ValueError(reason)


def die() -> Crashing:
    os._exit(3)


def make_once(mark: str) -> Crashing:
    """Hangs where the mark is there, and leaves it."""
    if os.path.exists(mark):
        time.sleep(600)
    open(mark, "w").close()
    return Crashing()


def refuse_again(mark: str) -> Crashing:
    """Refuses where the mark is there, and leaves it."""
    if os.path.exists(mark):
        raise ValueError("out of shared memory")
    open(mark, "w").close()
    return Crashing()
