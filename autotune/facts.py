"""What a study's record says of the run itself: its command, limits and budgets, and how it ended."""

from __future__ import annotations

import argparse
from typing import Any

from truffle.autotune.grid_errors import LAYER
from truffle.autotune.options import resolved_command, without_password
from truffle.autotune.target import Target
from truffle.bench.accuracy import Setting
from truffle.bench.text import SOURCE
from truffle.bench.workloads import Workload
from truffle.model.tuned import Study


def facts(
    arguments: argparse.Namespace,
    setting: Setting,
    max_kl: float | None,
    summary: Study,
    workload: Workload,
    target: Target,
) -> dict[str, Any]:
    """Entries that only the command line knows, for outputs.study_record."""
    return {
        "command": without_password(arguments.command_line),
        "resolved_command": resolved_command(arguments, target),
        "accuracy_model": {
            "id": arguments.model,
            "context": setting.context,
            "samples": setting.samples,
            "steps": setting.steps,
            "proxy": (arguments.model, setting.context) != (workload.model, workload.context),
            "text": None if arguments.model == LAYER else SOURCE,
        },
        "throughput_of": _timed(target),
        "limit": {
            "max_kl": max_kl,
            "source": "--max-kl" if arguments.max_kl is not None else "the paper default's own KL in this run",
        },
        "budget": {"trials": arguments.trials, "timeout_s": arguments.timeout},
        "seconds": summary.seconds,
        "stop_reason": summary.stop_reason,
        "complete": summary.complete,
    }


def _timed(target: Target) -> str | None:
    """What a step is where it is less than a whole one, as grids recorded without a card say of theirs."""
    alone = target.recorded and any("nothing else is in it" in note for note in target.notes)
    return "attention layers alone" if alone else None
