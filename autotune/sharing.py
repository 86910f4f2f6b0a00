"""A study in a database, that several machines work on; heartbeats tell what a dead worker was at, which is retried."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.storages._heartbeat import BaseHeartbeat
from sqlalchemy.exc import SQLAlchemyError

from truffle.autotune.storage import DIRECTIONS, StudyError

BEAT_S, SILENT_S, MOST_RETRIES = 10, 45, 2
# Heartbeats have been "experimental" in Optuna since 2.9: nothing that a user can do anything about.
warnings.filterwarnings("ignore", category=ExperimentalWarning)


def open_storage(url: str, beat_s: int = BEAT_S, silent_s: int = SILENT_S) -> RDBStorage:
    """The database at `url`, such as ``postgresql+psycopg://user@host/name``; ``postgresql://`` is that too.

    Args:
        beat_s: seconds from one heartbeat of a running trial to the next.
        silent_s: a worker unheard of for as long is dead.

    Raises:
        StudyError: it cannot be reached, or what talks to it is not installed.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise StudyError(f"storage: expected an address such as postgresql://user@host/name, got {url!r}")
    url = f"postgresql+psycopg://{rest}" if scheme == "postgresql" else url
    try:
        return RDBStorage(
            url, heartbeat_interval=beat_s, grace_period=silent_s,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=MOST_RETRIES),
        )  # fmt: skip
    except ImportError as error:
        raise StudyError(f"storage: {error}; pip install 'truffle-attention[postgres]' installs it") from error
    except SQLAlchemyError as error:
        raise StudyError(f"storage: {' '.join(str(error).split())[:300]}") from error


def shared_study(storage: RDBStorage, name: str, seed: int | None) -> optuna.Study:
    """The study of that name, made where there is none.

    Args:
        seed: of the sampler; workers leave it open, or all would ask for the same points.
    """
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=8)
    return optuna.create_study(
        storage=storage, study_name=name, directions=DIRECTIONS, sampler=sampler, load_if_exists=True
    )


@contextlib.contextmanager
def beating(study: optuna.Study, trial: optuna.Trial) -> Iterator[None]:
    """Say that the trial is alive while it runs, where the storage listens."""
    storage = study._storage
    if not isinstance(storage, BaseHeartbeat):
        yield
        return
    interval = storage.get_heartbeat_interval()
    over = threading.Event()

    def beat() -> None:
        while not over.is_set():
            storage.record_heartbeat(trial._trial_id)
            over.wait(interval)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def retry_stale(study: optuna.Study) -> None:
    """Line up again what dead workers were at, where the storage tells."""
    if isinstance(study._storage, BaseHeartbeat):
        fail_stale_trials(study)
