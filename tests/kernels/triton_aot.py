"""Compiles Triton kernels for cards that are not here."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

CAPABILITIES = (80, 89, 90, 120)
SHARED_BYTES = 99 * 1024  # what one block may have on consumer cards (sm_86, sm_89, sm_120)
SPILLED_BYTES = 256  # a thread; the compiler's last resort, worth no smaller tiles
TYPES = {
    torch.bfloat16: "bf16", torch.float32: "fp32", torch.int8: "i8", torch.int32: "i32", torch.uint16: "u16",
    torch.uint8: "u8", torch.int16: "i16",
}  # fmt: skip
OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")


@dataclass(frozen=True)
class Launch:
    """A kernel as one call specialises it.

    Attributes:
        pointers: element types by argument; they are aligned to 16 bytes, as torch's are.
        constants: compile-time arguments and launch options, as the kernel's `tiling` gives them; None for a tensor
            that is not there.
        scalars: types of the other arguments, i32 unless named here.
        multiples_of_16: integer arguments that are such.
    """

    kernel: Any
    pointers: Mapping[str, torch.dtype]
    constants: Mapping[str, Any]
    scalars: Mapping[str, str]
    multiples_of_16: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compiled:
    """What a compiled kernel takes of a card."""

    shared_bytes: int
    spilled_bytes: int
    ptx: str


def compiled_for(capability: int, launch: Launch) -> Compiled:
    """`launch` compiled for cards of this compute capability, down to machine code."""
    names = launch.kernel.arg_names
    constants = {name: value for name, value in launch.constants.items() if name not in OPTIONS}
    types = {name: f"*{TYPES[dtype]}" for name, dtype in launch.pointers.items()} | dict(launch.scalars)
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
    aligned = [i for i, name in enumerate(names) if signature[name].startswith("*") or name in launch.multiples_of_16]
    source = ASTSource(launch.kernel, signature, constants, {(i,): [["tt.divisibility", 16]] for i in aligned})
    options = {name: value for name, value in launch.constants.items() if name in OPTIONS}
    with contextlib.redirect_stdout(io.StringIO()) as log:
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    spilled = [int(found) for found in re.findall(r"(\d+) bytes spill stores", log.getvalue())]
    return Compiled(compiled.metadata.shared, max(spilled, default=0), compiled.asm["ptx"])
