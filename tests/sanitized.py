"""A pytest plugin that puts the sanitised build of the native extension in place of the installed one.

`make test-sanitize` names it with `-p`. It must come before anything imports the extension.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

NAME = "truffle.kernels._native"
FOLDER = Path(__file__).parents[1] / "build" / "sanitize"


def load() -> ModuleType:
    """The extension of the sanitised build."""
    if NAME in sys.modules:
        raise RuntimeError("the installed extension is loaded already")
    path = next(FOLDER.glob("_native*.so"))
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return module


native = load()


def pytest_collection_finish() -> None:
    """Refuse to run on anything but the sanitised build."""
    from truffle.kernels import isa, memory

    for user in (isa, memory):
        if user.native is not native or not native.sanitizers:
            raise pytest.UsageError(f"{user.__name__} uses {user.native.__file__}, which is not sanitised")


def pytest_report_header() -> str:
    return f"native extension: {native.__file__}, built with {native.sanitizers}"
