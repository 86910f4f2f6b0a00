"""A bench in a process of its own, so that what kills or hangs it costs one trial; it is replaced when next asked."""

from __future__ import annotations

import json
import multiprocessing
import re
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any

from truffle.autotune.bench_process import serve
from truffle.autotune.measuring import Bench, Fidelity, Measured, MeasureError
from truffle.model.config import DecodeConfig

PATIENCE_S, LEAST_PATIENCE_S, TIMES_THE_LONGEST = 900.0, 120.0, 20.0
TIMES_THE_FIRST, GRACE_S = 2.0, 10.0
MAKING = "before it could measure: by --model, --accuracy-context and --workload it holds less or more"


class IsolatedBench:
    """Asks a bench in another process.

    A measurement may take 20 times as long as the longest of its fidelity so far, and two minutes at least; the first
    may take a quarter of an hour. What takes longer hangs. To make the bench the first process may take as long as it
    likes, those that replace it twice as long, and a quarter of an hour at least.

    Args:
        make, arguments: the bench is ``make(*arguments)``, called in the other process; both are sent there.
    """

    def __init__(self, make: Callable[..., Bench], *arguments: Any, patience_s: float | None = None) -> None:
        self._made_by, self._patience_s = (make, arguments), patience_s
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._longest: dict[Fidelity, float] = {}
        self._made_s: float | None = None
        self._traces = tempfile.NamedTemporaryFile(prefix="truffle-", suffix=".trace")  # noqa: SIM115, gone with this

    def __enter__(self) -> IsolatedBench:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def start(self) -> None:
        """Start the process and wait until its bench is made.

        Raises:
            ValueError: the bench cannot be made as asked.
            MeasureError: it died over it, or one that replaces another took too long.
        """
        started = time.monotonic()
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, self._traces.name, *self._made_by), daemon=True)
        self._process.start()
        theirs.close()
        try:
            made = self._answer(self._patience_to_make)
        except MeasureError as error:
            raise MeasureError(f"{error}, {MAKING}", error.problem) from None
        if "refused" in made:
            self.end()
            raise ValueError(made["refused"])
        self._made_s = self._made_s or time.monotonic() - started

    def measure(self, config: DecodeConfig, fidelity: Fidelity, repeat: int = 0) -> Measured:
        """Figures of `config`.

        Raises:
            MeasureError: there are none, also because the process died or took too long.
        """
        if self._process is None or not self._process.is_alive():
            self._replace()
        asked = {"config": config.model_dump(mode="json"), "fidelity": fidelity, "repeat": repeat}
        found = self._answer(self._patience_of(fidelity), asked)
        if "reason" in found:
            if found["spoilt"]:
                self.end()
            raise MeasureError(found["reason"], found["problem"])
        self._longest[fidelity] = max(found["seconds"], self._longest.get(fidelity, 0.0))
        return Measured(found["figures"], found["seconds"], found["samples"])

    def _replace(self) -> None:
        self.end()
        try:
            self.start()
        except ValueError as error:  # what could be made once, which is then no fault of the options
            raise MeasureError(f"another process to measure cannot be started: {error}") from None

    def end(self) -> None:
        """End the process, whatever it is at."""
        if self._process is not None and self._connection is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
        self._process = self._connection = None

    def _answer(self, patience_s: float | None, asked: dict[str, Any] | None = None) -> dict[str, Any]:
        """The next message, to what is asked if anything is. Without one, or when interrupted, nobody waits for a late
        one: the process ends."""
        assert self._connection is not None
        try:
            if asked is not None:
                self._connection.send_bytes(json.dumps(asked).encode())
            if self._connection.poll(patience_s):
                return json.loads(self._connection.recv_bytes())
            raise MeasureError(f"no answer within {patience_s:g} s", "hang")
        except (EOFError, OSError):
            reason = self._death()
            self.end()
            raise MeasureError(reason, "crash") from None
        except BaseException:
            self.end()
            raise

    def _patience_of(self, fidelity: Fidelity) -> float:
        if self._patience_s is not None:
            return self._patience_s
        longest = self._longest.get(fidelity)
        return PATIENCE_S if longest is None else max(LEAST_PATIENCE_S, TIMES_THE_LONGEST * longest)

    @property
    def _patience_to_make(self) -> float | None:
        return None if self._made_s is None else max(PATIENCE_S, TIMES_THE_FIRST * self._made_s)

    def _death(self) -> str:
        assert self._process is not None
        self._process.join(GRACE_S)
        code = self._process.exitcode
        if code is None:
            return "the process that measures no longer answers"
        if code >= 0:
            return f"the process that measures ended with status {code}"
        name = signal.Signals(-code).name
        known = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"the process that measures was ended by {name}{known or _where(Path(self._traces.name))}"


def _where(traces: Path) -> str:
    """Where Python was when the process ended, if it could still say so: the thread that failed, or, where that is
    none of Python's, the main one, which is told last."""
    threads = re.split(r"^(?=Current thread|Thread)", traces.read_text(errors="replace"), flags=re.MULTILINE)
    failed = next((thread for thread in threads if thread.startswith("Current")), threads[-1])
    innermost = re.search(r'File "([^"]+)", line (\d+) in (\S+)', failed)
    return f" in {innermost[3]} ({Path(innermost[1]).name}:{innermost[2]})" if innermost else ""
