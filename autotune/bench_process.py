"""The process in which a bench measures: it answers one request after another until whoever asks is gone."""

from __future__ import annotations

import faulthandler
import gc
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from truffle.autotune.measuring import Bench, MeasureError
from truffle.model.config import DecodeConfig

# After any of these a CUDA context answers nothing else.
SPOILS = ("CUDA error", "CUDA_ERROR", "cudaError")


def serve(connection: Connection, traces: str, make: Callable[..., Bench], arguments: tuple[Any, ...]) -> None:
    """Make the bench, say so, and measure; a crash leaves in the file `traces` where Python was. Ctrl-C is for the
    process that asks."""
    faulthandler.enable(open(traces, "w"))  # noqa: SIM115, open as long as the process lives
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        bench = make(*arguments)
    except (ValueError, OSError) as error:
        _send(connection, {"refused": str(error)})
        return
    _send(connection, {"ready": True})
    while True:
        try:
            asked = json.loads(connection.recv_bytes())
        except EOFError:
            return
        _send(connection, _answer(bench, asked))


def _answer(bench: Bench, asked: dict[str, Any]) -> dict[str, Any]:
    config = DecodeConfig.model_validate(asked["config"])
    try:
        found = bench.measure(config, asked["fidelity"], asked["repeat"])
        return {"figures": found.figures, "seconds": found.seconds, "samples": found.samples}
    except MeasureError as error:
        return {"reason": str(error), "problem": error.problem, "spoilt": False}
    except (torch.OutOfMemoryError, MemoryError) as error:
        reason, problem = f"out of memory: {error}", "out of memory"
    except Exception as error:  # whatever a config does wrong is its record
        reason, problem = f"{type(error).__name__}: {error}", "error"
    _free()
    return {"reason": reason, "problem": problem, "spoilt": any(sign in reason for sign in SPOILS)}


def _free() -> None:
    """Give back what the failed config held."""
    gc.collect()
    if torch.cuda.is_initialized():
        try:
            torch.cuda.empty_cache()
        except RuntimeError:  # a spoilt context: this process is about to be replaced
            return


def _send(connection: Connection, message: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(message).encode())


def _end_with_parent() -> None:
    """A parent that was killed closes nothing while a measurement is under way."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
