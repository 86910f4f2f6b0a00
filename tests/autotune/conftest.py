"""Journals of tests need not outlive the machine: to wait for the disk would take most of the time."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _unsynced(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
