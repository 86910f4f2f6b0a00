"""CUDA's run-time compiler without a GPU or a driver: NVIDIA's library through ctypes."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
from pathlib import Path


class Failed(Exception):
    """The compiler's own words."""


def compiled(source: str, options: tuple[str, ...]) -> tuple[bytes, str]:
    """Machine code of `source`, and what the compiler said.

    Raises:
        Failed: it does not compile.
    """
    library, program = found(), ctypes.c_void_p()
    assert library is not None
    assert library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None) == 0
    try:
        arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        status = library.nvrtcCompileProgram(program, len(options), arguments)
        log = _result(library, program, "ProgramLog").decode().rstrip("\0")
        if status != 0:
            raise Failed(log)
        return _result(library, program, "CUBIN"), log
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _result(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    assert getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
    held = ctypes.create_string_buffer(size.value)
    assert getattr(library, f"nvrtcGet{what}")(program, held) == 0
    return held.raw


@functools.cache
def found() -> ctypes.CDLL | None:
    """The library of the package nvidia-cuda-nvrtc, or the system's, or None."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) / "cu13" / "lib" for folder in (spec and spec.submodule_search_locations) or ()]
    for folder in folders:
        if (folder / "libnvrtc.so.13").exists():
            ctypes.CDLL(str(next(folder.glob("libnvrtc-builtins.so.*"))))  # it looks for them by name alone
            return ctypes.CDLL(str(folder / "libnvrtc.so.13"))
    system = ctypes.util.find_library("nvrtc")
    return ctypes.CDLL(system) if system else None
