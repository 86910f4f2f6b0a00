"""Tests of the tuner wait for no disk, and know of no calibration that the machine may have."""

from __future__ import annotations

import os

import pytest

from truffle.model.gguf import cache_folder


@pytest.fixture(autouse=True)
def _unsynced(monkeypatch):
    """Journals of tests need not outlive the machine: to wait for the disk would take most of the time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True, scope="module")
def _uncalibrated(tmp_path_factory):
    """What `calibrate` and `backtest --keep` left in the user's cache would be taken for estimates here."""
    models = cache_folder() / "models"
    models.mkdir(parents=True, exist_ok=True)
    empty = tmp_path_factory.mktemp("cache")
    (empty / "truffle").mkdir()
    (empty / "truffle/models").symlink_to(models)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(empty))
        yield
