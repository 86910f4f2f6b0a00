"""What a record was measured on: machine, system, libraries and revision."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from truffle.kernels import hardware

PACKAGES = (
    *("truffle-attention", "torch", "triton", "cupy-cuda12x", "cupy-cuda13x", "numba", "numpy", "optuna"),
    *("pandas", "pydantic", "transformers", "safetensors", "nvidia-ml-py"),
)


def environment() -> dict[str, Any]:
    """CPU, GPUs, driver, system, Python, package versions and the checkout's commit, ready for JSON.

    Libraries are not imported. `commit` and `dirty` are None outside a git checkout.
    """
    here = hardware.detect()
    commit, dirty = revision(Path(__file__).resolve().parent.parent)
    return {
        "cpu": here.cpu.model_dump(mode="json"),
        "memory_limit_bytes": here.memory_limit_bytes,
        "gpus": [gpu.model_dump(mode="json") for gpu in here.gpus],
        "driver": here.driver,
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": versions(),
        "commit": commit,
        "dirty": dirty,
    }


def versions() -> dict[str, str]:
    """Versions of those of `PACKAGES` that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def revision(folder: Path) -> tuple[str | None, bool | None]:
    """Commit of the checkout at `folder`, and whether tracked files differ from it."""
    if not (folder / ".git").exists():
        return None, None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return commit or None, None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
