"""The study on disk: an append-only journal that survives kill -9 and goes on where it stopped."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

from truffle.autotune.record import TrialRecord

JOURNAL = "study.journal"
STATES = {
    "complete": TrialState.COMPLETE, "repeat": TrialState.COMPLETE, "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}  # fmt: skip
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
        sampler=sampler(seed),
        load_if_exists=True,
    )
    require_same(study, fingerprint)
    _reap(study)
    return study


def sampler(seed: int | None) -> optuna.samplers.BaseSampler:
    """What asks for points; without a seed, other ones each time."""
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=8)


def stored_records(study: optuna.Study) -> list[TrialRecord]:
    """The records of a study's ended trials, by number. What was killed between its record and its end has none."""
    found = ((trial, trial.user_attrs.get("record")) for trial in study.get_trials(deepcopy=False))
    return [TrialRecord.from_dict(kept) for trial, kept in found if kept and trial.state == STATES[kept["status"]]]


def repair(journal: Path) -> bool:
    """Cut the journal off before the first line that cannot be read; the file as it was stays beside it.

    As a rule that is the last line, which a killed writer left unfinished. What is appended to such a line makes the
    whole journal unreadable, and lines after one cannot be read without it.

    Returns:
        Whether there was one.
    """
    content = journal.read_bytes()
    whole = _whole(content)
    if whole == len(content):
        return False
    shutil.copyfile(journal, journal.with_suffix(".torn"))
    os.truncate(journal, whole)
    print(f"{journal} was torn: its last {len(content) - whole} bytes are left out, and kept in "
          f"{journal.with_suffix('.torn').name}", file=sys.stderr)  # fmt: skip
    return True


def _whole(content: bytes) -> int:
    """Bytes before the first line that cannot be read."""
    return sum(map(len, itertools.takewhile(_is_entry, content.splitlines(keepends=True))))


def _is_entry(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def require_same(study: optuna.Study, fingerprint: dict[str, Any]) -> None:
    """Note what the study's trials depend on, or raise StudyError where it was noted otherwise."""
    known = study.user_attrs.get("fingerprint")
    fingerprint = json.loads(json.dumps(fingerprint))
    if known is None:
        study.set_user_attr("fingerprint", fingerprint)
        return
    for name in sorted(set(known) | set(fingerprint)):
        was, now = (marks.get(name) for marks in (known, fingerprint))
        if was != now:
            raise StudyError(f"resume: the study was made with {name} {was!r}, expected the same, got {now!r}")


def require_same_kept(folder: Path, fingerprint: dict[str, Any]) -> None:
    """`require_same` of the study in `folder`, which is left as it is.

    Raises:
        StudyError: it is of something else.
    """
    content = (folder / JOURNAL).read_bytes()
    with tempfile.TemporaryDirectory() as copy:
        (Path(copy) / JOURNAL).write_bytes(content[: _whole(content)])
        open_study(Path(copy), fingerprint, seed=0)


def _reap(study: optuna.Study) -> None:
    """End trials that a killed run left running or waiting; planned points are planned again."""
    for _ in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.ask()
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
