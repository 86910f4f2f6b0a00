"""One tuner a folder: a lock that the system takes back however its holder ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from truffle.autotune.storage import JOURNAL, StudyError

LOCK = "study.lock"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder, made where it is missing, and cleared away again where no study came of it.

    Raises:
        StudyError: another tuner holds it.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    with open(path, "a+") as file:
        _take(file.fileno(), folder, path)
        file.truncate(0)
        print(os.getpid(), file=file, flush=True)
        try:
            yield
        finally:
            if not (folder / JOURNAL).exists():
                path.unlink()
                _clear(made)


def _clear(made: list[Path]) -> None:
    """Remove the folders that were made, as far as nothing else is in them."""
    for path in made:
        if any(path.iterdir()):
            break
        path.rmdir()


def _take(descriptor: int, folder: Path, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free = os.fstat(descriptor).st_nlink > 0  # or a holder has just cleared it away
    except BlockingIOError:
        free = False
    if not free:
        holder = path.read_text().strip() if path.exists() else "that has just ended"
        raise StudyError(f"out: another tuner is at work in {folder} (process {holder})")
