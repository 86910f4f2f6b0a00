"""Joins a study in a database: what the study is of, its tuner has said there."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage

from truffle.autotune.isolation import IsolatedBench
from truffle.autotune.local_bench import make
from truffle.autotune.progress import StudyProgress
from truffle.autotune.search import INTERRUPTED, Search
from truffle.autotune.setup import Setup, set_up
from truffle.autotune.sharing import open_storage, shared_study
from truffle.autotune.stopping import Stopping
from truffle.autotune.storage import StudyError, require_same
from truffle.autotune.target import HOST_MARK

# Of a tuner's options, those that its workers share.
SHARED = (
    "gpu", "vram_limit", "workload", "model", "methods", "max_kl", "max_latency_ms", "min_score", "trials", "seed",
    "accuracy_context", "accuracy_samples", "accuracy_steps", "accuracy_only",
)  # fmt: skip


def worker(arguments: argparse.Namespace) -> int:
    """Run trials of the study until its tuner ends it.

    Raises:
        StudyError: there is no such study, or it is of other hardware.
    """
    study = joined(open_storage(arguments.storage), arguments.study)
    options = argparse.Namespace(**study.user_attrs["options"], host=arguments.host)
    setup = set_up(options)
    require_same(study, _marks_to_share(setup, study))
    for note in setup.target.notes:
        print(note, file=sys.stderr)
    with IsolatedBench(make, setup.plan) as bench, StudyProgress(options.trials, 0) as progress:
        rate, timed = study.user_attrs["fastest_exact"], not options.accuracy_only
        search = Search(study, setup.space, bench, setup.limits, rate, progress.ended, timed)
        reason = search.run(Stopping(options.trials, math.inf, len(study.get_trials(deepcopy=False))))
        progress.say(f"the study ended: {reason}")
    return 130 if reason == INTERRUPTED else 0


def _marks_to_share(setup: Setup, study: optuna.Study) -> dict[str, Any]:
    """The fingerprint. Machines that are alike are each calibrated by themselves, which makes them no others."""
    own = {HOST_MARK: study.user_attrs["fingerprint"].get(HOST_MARK)} if setup.target.host.here else {}
    return {**setup.fingerprint, **own}


def announce(study: optuna.Study, arguments: argparse.Namespace, card: str, fastest_exact: float) -> None:
    """Say in the study what workers have to know. Those that run take up again what had ended."""
    options = {name: getattr(arguments, name) for name in SHARED}
    study.set_user_attr("options", {**options, "gpu": card})
    study.set_user_attr("fastest_exact", fastest_exact)
    study.set_user_attr("stopped", None)


def joined(storage: BaseStorage, name: str | None) -> optuna.Study:
    """The study of that name, or the only one that there is.

    Raises:
        StudyError: there is none, or not only one.
    """
    names = sorted(optuna.get_all_study_names(storage))
    if name is None and len(names) != 1:
        raise StudyError(f"study: expected a name, as the storage holds {len(names)}: {', '.join(names) or 'none'}")
    name = name or names[0]
    if name not in names:
        raise StudyError(f"study: expected one of {', '.join(names) or 'none yet'}, got {name!r}")
    study = shared_study(storage, name, seed=None)
    if "options" not in study.user_attrs:
        raise StudyError(f"study: expected one that a tuner has opened, got {name!r}, which none has")
    return study


def open_shared(url: str, out: Path, name: str | None, resume: bool, marks: dict[str, Any], seed: int) -> optuna.Study:
    """A tuner's study in a database, new or to go on with; by default it is called as its folder is.

    Raises:
        StudyError: it is there and was not to be, or the other way round, or it is of something else.
    """
    storage, name = open_storage(url), name or out.name
    if resume:
        _require_there(storage, name)
    elif name in optuna.get_all_study_names(storage):
        raise StudyError(f"study: expected none called {name!r} in the storage; --resume goes on with the one there")
    study = shared_study(storage, name, seed)
    require_same(study, marks)
    return study


def known_study(url: str, name: str) -> optuna.Study:
    """A study that is in a database.

    Raises:
        StudyError: it is not.
    """
    storage = open_storage(url)
    _require_there(storage, name)
    return shared_study(storage, name, seed=None)


def _require_there(storage: BaseStorage, name: str) -> None:
    if name not in optuna.get_all_study_names(storage):
        raise StudyError(f"resume: expected a study called {name!r} in the storage, found none")
