"""CUDA sources compiled for the host, with what CuPy's modules offer, so that their arithmetic runs without a GPU."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HEADER = Path(__file__).with_suffix(".h")
KERNEL = re.compile(r'extern "C" __global__ void\s+(?:__launch_bounds__\(\w+\)\s+)?(\w+)\(')


class Module:
    """A source compiled with the macros among `options` to a library in `folder`."""

    def __init__(self, source: Path, options: tuple[str, ...], folder: Path) -> None:
        names = KERNEL.findall(source.read_text(encoding="utf-8"))
        entry = "(const unsigned *grid, unsigned threads, void **given)"
        calls = [f'extern "C" void run_{name}{entry} {{ run({name}, grid, threads, given); }}' for name in names]
        text = "\n".join([f'#include "{HEADER}"', f'#include "{source}"', *calls])
        library = folder / f"{source.stem}{len(list(folder.iterdir()))}.so"
        command = ["g++", "-O1", "-w", "-ffp-contract=off", "-shared", "-fPIC", "-x", "c++", "-", "-o", str(library)]
        subprocess.run([*command, *options], input=text, text=True, check=True)
        self._library = ctypes.CDLL(str(library))

    def get_function(self, name: str) -> Callable[..., None]:
        run = getattr(self._library, f"run_{name}")

        def call(grid: tuple[int, ...], block: tuple[int], arguments: tuple[Any, ...]) -> None:
            held = [np.array(argument) for argument in arguments]
            pointers = (ctypes.c_void_p * len(held))(*(one.ctypes.data for one in held))
            run((ctypes.c_uint * 3)(*grid, *[1] * (3 - len(grid))), ctypes.c_uint(block[0]), pointers)

        return call
