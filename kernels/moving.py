"""Arguments of an operation on another device: tensors, and the stores, tables and codes that hold some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import torch

from truffle.kernels.codes import Codes
from truffle.kernels.linked import shared
from truffle.kernels.store import Segment, Store


class Mover:
    """Moves arguments to a device; what is the same object in several places, or calls, is copied once.

    The rows of a linked store go where the device reads them over the link.
    """

    def __init__(self, device: str | torch.device) -> None:
        self._device = torch.device(device)
        self._moved: dict[int, tuple[Any, Any]] = {}  # the original beside its copy, so that its id stays its own

    def __call__(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._value(value) for name, value in arguments.items()}

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(one) for one in value]
        if not isinstance(value, torch.Tensor | Store | Segment | Codes):
            return value
        if id(value) not in self._moved:
            self._moved[id(value)] = value, self._copied(value)
        return self._moved[id(value)][1]

    def _copied(self, value: torch.Tensor | Store | Segment | Codes) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(self._device)
        if isinstance(value, Store) and value.linked and self._device.type != "cpu":
            there, here = shared(value.rows.shape, value.rows.dtype, self._device)
            here.copy_(value.rows)
            return replace(value, rows=there)
        held = {field.name: getattr(value, field.name) for field in fields(value)}
        new = self(held)
        there = all(new[name] is held[name] for name in held)  # what is known of it then holds on
        return value if there else replace(value, **new)


def moved(arguments: Mapping[str, Any], device: str | torch.device) -> dict[str, Any]:
    """The arguments with all that they hold on `device`."""
    return Mover(device)(arguments)
