"""Argument checks at the border of an operation: one message format, sizes matched by symbol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What one tensor argument must be.

    Attributes:
        dims: space-separated symbols, such as ``"R n d"``. Equal symbols are equal sizes; a product is
            written ``"B*H"``, and must follow the symbols it is made of.
        dtypes: accepted torch dtypes by name.
        output: filled by the operation.
        optional: may be None.
    """

    dims: str
    dtypes: tuple[str, ...]
    output: bool = False
    optional: bool = False


class ArgumentError(ValueError):
    """An argument is not what the operation's contract asks for."""


def expect(condition: bool, argument: str, expected: str, found: Any) -> None:
    """Raise ArgumentError naming the argument, what was expected and what came, unless `condition`."""
    if not condition:
        raise ArgumentError(f"{argument}: expected {expected}, got {found}")


def match_tensors(specs: Mapping[str, TensorSpec], arguments: Mapping[str, Any]) -> dict[str, int]:
    """Check every tensor against its spec and return the sizes by symbol.

    Raises:
        ArgumentError: wrong type, dtype, rank, size, stride order or device.
    """
    import torch

    sizes: dict[str, int] = {}
    device = None
    for name, spec in specs.items():
        tensor = arguments.get(name)
        if tensor is None and spec.optional:
            continue
        expect(isinstance(tensor, torch.Tensor), name, "a torch.Tensor", type(tensor).__name__)
        dtype = str(tensor.dtype).removeprefix("torch.")
        expect(dtype in spec.dtypes, name, f"dtype {' or '.join(spec.dtypes)}", dtype)
        symbols = spec.dims.split()
        expect(tensor.dim() == len(symbols), name, f"shape [{spec.dims}]", list(tensor.shape))
        for symbol, size in zip(symbols, tensor.shape, strict=True):
            _match_size(name, spec.dims, symbol, size, sizes, tensor)
        expect(tensor.is_contiguous(), name, "a contiguous tensor", f"strides {tensor.stride()}")
        device = device or tensor.device
        expect(tensor.device == device, name, f"device {device} as the other tensors", tensor.device)
    return sizes


def _match_size(name: str, dims: str, symbol: str, size: int, sizes: dict[str, int], tensor: Any) -> None:
    if symbol.isdigit():
        wanted = int(symbol)
    elif "*" in symbol:
        wanted = 1
        for factor in symbol.split("*"):
            wanted *= sizes[factor]
    else:
        wanted = sizes.setdefault(symbol, size)
    if size != wanted:
        raise ArgumentError(f"{name}: expected shape [{dims}] with {symbol} = {wanted}, got {list(tensor.shape)}")
