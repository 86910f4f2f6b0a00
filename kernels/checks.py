"""Argument checks at the border of an operation: one message format, sizes matched by symbol."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
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

    @functools.cached_property
    def symbols(self) -> tuple[str, ...]:
        """One symbol a dimension."""
        return tuple(self.dims.split())

    @functools.cached_property
    def torch_dtypes(self) -> frozenset[Any]:
        """`dtypes` as torch knows them."""
        import torch

        return frozenset(getattr(torch, name) for name in self.dtypes)


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
        if not isinstance(tensor, torch.Tensor):
            raise ArgumentError(f"{name}: expected a torch.Tensor, got {type(tensor).__name__}")
        if tensor.dtype not in spec.torch_dtypes:
            raise ArgumentError(f"{name}: expected dtype {' or '.join(spec.dtypes)}, got {tensor.dtype}")
        if tensor.dim() != len(spec.symbols):
            raise ArgumentError(f"{name}: expected shape [{spec.dims}], got {list(tensor.shape)}")
        for symbol, size in zip(spec.symbols, tensor.shape, strict=True):
            if sizes.setdefault(symbol, size) != size or not symbol.isalpha():
                _match_size(name, spec.dims, symbol, size, sizes, tensor)
        if not tensor.is_contiguous():
            raise ArgumentError(f"{name}: expected a contiguous tensor, got strides {tensor.stride()}")
        device = device or tensor.device
        if tensor.device != device:
            raise ArgumentError(f"{name}: expected device {device} as the other tensors, got {tensor.device}")
    return sizes


def _match_size(name: str, dims: str, symbol: str, size: int, sizes: dict[str, int], tensor: Any) -> None:
    if symbol.isdigit():
        wanted = int(symbol)
    elif "*" in symbol:
        wanted = 1
        for factor in symbol.split("*"):
            wanted *= sizes[factor]
    else:
        wanted = sizes[symbol]
    if size != wanted:
        raise ArgumentError(f"{name}: expected shape [{dims}] with {symbol} = {wanted}, got {list(tensor.shape)}")
