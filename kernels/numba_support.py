"""What the Numba kernels share: launching on a number of threads, and bits that Numba has no word for."""

# pyright: reportPrivateImportUsage=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from truffle.kernels.checks import ArgumentError

# Sums may be reordered, and products fused into them; NaN and infinity keep their meaning.
REORDER = {"reassoc", "contract", "nsz"}
FUSE = {"contract"}

# Threads of the OpenMP layer spin between calls and, on a busy machine, wait for each other by time slices (12 ms
# seen for a call of 0.5 ms), and it cannot fork; TBB and workqueue sleep. A layer named by the user is kept.
if "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
    numba.config.THREADING_LAYER_PRIORITY = ["tbb", "workqueue", "omp"]

_one_launch = threading.Lock()


@contextlib.contextmanager
def launching(threads: int) -> Iterator[None]:
    """Run the kernels called inside on `threads` threads, or on all that Numba has if those are fewer.

    The workqueue layer aborts the process when two threads enter it at once; they take turns there.
    """
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    try:
        with _one_launch if numba.threading_layer() == "workqueue" else contextlib.nullcontext():
            yield
    finally:
        numba.set_num_threads(before)


def bits(tensor: torch.Tensor) -> np.ndarray:
    """The tensor's memory as NumPy sees it; bfloat16 as uint16."""
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def address(tensor: torch.Tensor, dtype: torch.dtype, name: str) -> int:
    """Where a contiguous CPU tensor lies, for `array_at`.

    Raises:
        ArgumentError: another dtype, device or stride order.
    """
    if tensor.dtype != dtype or not tensor.is_contiguous() or tensor.device.type != "cpu":
        found = f"{tensor.dtype} on {tensor.device} with strides {tensor.stride()}"
        raise ArgumentError(f"{name}: expected a contiguous {dtype} tensor on the CPU, got {found}")
    return tensor.data_ptr()


@intrinsic
def _pointer_at(typingctx, where, like):
    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(where, like), generate


@numba.njit
def array_at(where, size, like):
    """The `size` elements of the dtype of array `like` at an address."""
    return numba.carray(_pointer_at(where, like), (size,))


@intrinsic
def widen(typingctx, value):
    """float32 from a float32, from the uint16 bits of a bfloat16, or from an int8."""

    def generate(context, builder, signature, args):
        if signature.args[0] == types.float32:
            return args[0]
        if signature.args[0] == types.int8:
            return builder.sitofp(args[0], ir.FloatType())
        word = builder.zext(args[0], ir.IntType(32))
        return builder.bitcast(builder.shl(word, ir.Constant(ir.IntType(32), 16)), ir.FloatType())

    return types.float32(value), generate


@intrinsic
def float_bits(typingctx, value):
    """The uint32 bits of a float32."""

    def generate(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), generate


@intrinsic
def bits_float(typingctx, value):
    """The float32 of uint32 bits."""

    def generate(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic
def prefetch(typingctx, array, index):
    """Ask for the cache line of `array[index]`, which may lie outside the array."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        line = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        flags = [ir.Constant(ir.IntType(32), flag) for flag in (0, 3, 1)]
        kind = ir.FunctionType(ir.VoidType(), [line.type, *[flag.type for flag in flags]])
        name = "llvm.prefetch.p0" if "*" not in str(line.type) else "llvm.prefetch.p0i8"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        builder.call(function, [line, *flags])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate
