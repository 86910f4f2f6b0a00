"""What `make` writes of benchmarks is what the workflow keeps."""

from __future__ import annotations

import subprocess

import pytest

from truffle.bench.regression.trees import ROOT


def recipe(target):
    return subprocess.run(["make", "-n", "-C", ROOT, target], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("target", "file", "kept"),
    [("bench", "--benchmark-json build/bench.json", "build/bench.json"),
     ("gate", "--json build/gate.json", "build/gate.*"), ("gate", "--markdown build/gate.md", "build/gate.*")],
)  # fmt: skip
def test_results_are_written_and_uploaded(target, file, kept):
    lines = recipe(target).splitlines()
    assert "mkdir -p build" in lines
    assert any(file in line for line in lines)
    upload = (ROOT / ".github/workflows/ci.yml").read_text().partition("upload-artifact")[2]
    assert kept in upload.split()
