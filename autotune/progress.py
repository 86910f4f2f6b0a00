"""Shows a study as it goes: a bar with an estimate of the rest on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from truffle.autotune.record import TrialRecord


class StudyProgress:
    """A rich progress bar over finished trials, on stderr."""

    def __init__(self, trials: int, finished: int) -> None:
        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("elapsed"),
                   TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())  # fmt: skip
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("trials", total=trials, completed=finished)
        self._started, self._trials, self._finished = time.monotonic(), trials, finished

    def __enter__(self) -> StudyProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """One line above the bar."""
        self._console.print(f"[{time.monotonic() - self._started:4.0f} s] {text}", markup=False, highlight=False)

    def ended(self, record: TrialRecord) -> None:
        """Count a trial and say how it went; points ruled out beforehand are counted nowhere."""
        if record.status == "pruned":
            return
        if record.status == "failed":
            self.say(f"trial {record.number} {record.label}: failed: {record.reason}")
            return
        self._finished += 1
        self._bar.update(self._task, completed=self._finished)
        rate = "" if record.tokens_per_s is None else f", {record.tokens_per_s:.3g} tokens/s ({record.throughput_kind})"
        limits = "" if record.feasible else f"; {record.infeasible_because}"
        self.say(
            f"trial {record.number} {record.label}, {record.threads} threads, batch {record.batch_size}: "
            f"KL {record.kl:.4f}{rate}{limits}"
        )
