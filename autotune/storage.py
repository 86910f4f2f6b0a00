"""The study on disk: an append-only journal that survives kill -9 and goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

JOURNAL = "study.journal"
UNSAID = {"methods": ["lsh"]}  # what a study was of before there was a choice
DIRECTIONS = (StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE)  # KL, tokens a second


optuna.logging.set_verbosity(optuna.logging.WARNING)  # progress is ours to show


class StudyError(ValueError):
    """A study that cannot be opened as asked."""


def open_study(folder: Path, fingerprint: dict[str, Any], seed: int) -> optuna.Study:
    """Create the study in `folder`, or go on with the one that is there.

    Args:
        fingerprint: what the trials depend on; it must be equal to go on.

    Raises:
        StudyError: the study there is of something else.
    """
    journal = folder / JOURNAL
    folder.mkdir(parents=True, exist_ok=True)
    if journal.exists():
        repair(journal)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.create_study(
        storage=storage,
        study_name="truffle",
        directions=DIRECTIONS,
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=8),
        load_if_exists=True,
    )
    _require_same(study, fingerprint)
    _reap(study)
    return study


def repair(journal: Path) -> bool:
    """Cut off a last line that a killed writer left unfinished; the file as it was stays beside it.

    Returns:
        Whether there was one.
    """
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole == content:
        return False
    shutil.copyfile(journal, journal.with_suffix(".torn"))
    journal.write_bytes(whole)
    return True


def _require_same(study: optuna.Study, fingerprint: dict[str, Any]) -> None:
    known = study.user_attrs.get("fingerprint")
    fingerprint = json.loads(json.dumps(fingerprint))
    if known is None:
        study.set_user_attr("fingerprint", fingerprint)
        return
    for name in sorted(set(known) | set(fingerprint)):
        was, now = (marks.get(name, UNSAID.get(name)) for marks in (known, fingerprint))
        if was != now:
            raise StudyError(f"resume: the study was made with {name} {was!r}, expected the same, got {now!r}")


def _reap(study: optuna.Study) -> None:
    """End trials that a killed run left running or waiting; planned points are planned again."""
    for _ in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.ask()
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
