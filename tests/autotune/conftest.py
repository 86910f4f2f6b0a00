"""Tests of the tuner wait for no disk, and know of no calibration that the machine may have."""

from __future__ import annotations

import os

import pytest

from truffle.model.gguf import cache_folder


@pytest.fixture(autouse=True)
def _unsynced(monkeypatch):
    """Journals of tests need not outlive the machine: to wait for the disk would take most of the time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def _cache(tmp_path_factory):
    """A cache folder without a calibration, with the models that were converted once."""
    folder, models = tmp_path_factory.mktemp("cache"), cache_folder() / "models"
    (folder / "truffle").mkdir()
    if models.is_dir():
        (folder / "truffle/models").symlink_to(models)
    return folder


@pytest.fixture(autouse=True, scope="module")
def _uncalibrated(_cache):
    """What `calibrate` and `backtest --keep` left in the user's cache would be taken for estimates here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(_cache))
        yield
