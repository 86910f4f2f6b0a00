"""Finds implementations by file name: `kernels/<operation>/<device>_<technology>.py` registers itself.

from truffle.kernels import registry
retrieve = registry.get("retrieve", "cpu_native")
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from truffle.kernels.checks import expect
from truffle.kernels.contract import Needs, OpContract

log = logging.getLogger(__name__)

# The order in which "auto" tries implementations on each device.
PREFERENCE = {
    "cpu": ("cpu_native", "cpu_numba", "reference"),
    "cuda": ("gpu_triton", "gpu_cupy", "reference"),
}
# What it tries before: at 96K of Llama-3.1-8B an H200 takes 47 us for a layer, and 66 in Triton.
FIRST = {("scan_sample", "cuda"): ("gpu_cupy",)}


class Unusable(RuntimeError):
    """The implementation asked for cannot run here, or does not exist."""


@dataclass(frozen=True)
class Implementation:
    """One way to compute an operation. Calling it checks the arguments; `function` does not."""

    op: str
    name: str
    function: Callable[..., None]
    needs: Needs
    refuses: Callable[[dict[str, Any]], str | None]

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Run on the contract's arguments.

        Raises:
            ArgumentError: an argument breaks the contract.
            Unusable: this implementation refuses these arguments.
        """
        names, defaults = self._parameters
        if len(args) > len(names):
            raise TypeError(f"{self.op}/{self.name} takes {len(names)} arguments, got {len(args)}")
        arguments = {**defaults, **dict(zip(names, args, strict=False)), **kwargs}
        threads, specs = arguments["threads"], contract(self.op).tensors
        self._expect_one_of("isa", ("auto", *self.needs.isas), arguments["isa"])
        self._expect_one_of("pinning", ("none", *self.needs.pinning), arguments["pinning"])
        counted = isinstance(threads, int) and not isinstance(threads, bool) and threads >= 1
        expect(counted, "threads", "an integer of at least 1", repr(threads))
        if self.needs.device != "any" and not interpreted(self.name):
            kind = self.needs.device
            for name in specs:
                where = getattr(arguments.get(name), "device", None)
                wanted = f"a {kind.upper()} tensor for {self.op}/{self.name}"
                expect(where is None or where.type == kind, name, wanted, where)
        contract(self.op).validate(arguments)
        reason = self.refuses(arguments)
        if reason:
            raise Unusable(f"{self.op}/{self.name} refuses: {reason}")
        self.function(*args, **kwargs)

    def _expect_one_of(self, argument: str, known: tuple[str, ...], found: Any) -> None:
        expect(found in known, argument, f"one of {', '.join(known)} for {self.op}/{self.name}", repr(found))

    @functools.cached_property
    def _parameters(self) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Names in order, and defaults."""
        parameters = inspect.signature(self.function).parameters
        defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
        return tuple(parameters), defaults


_registered: dict[tuple[str, str], Implementation] = {}


def implements(
    op: str,
    name: str,
    needs: Needs = Needs(),  # noqa: B008 - frozen
    refuses: Callable[[dict[str, Any]], str | None] = lambda arguments: None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register the decorated function as implementation `name` of `op`; it is returned unchanged.

    `refuses` is given the arguments of a call and returns why they cannot be handled, or None.

    Raises:
        KeyError: the name is taken.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        if (op, name) in _registered:
            raise KeyError(f"{op}/{name} is registered already")
        _registered[op, name] = Implementation(op, name, function, needs, refuses)
        return function

    return register


def _folders() -> list[Path]:
    import truffle.kernels

    return [Path(folder) for folder in truffle.kernels.__path__]


@functools.cache
def ops() -> tuple[str, ...]:
    """Names of all operations."""
    return tuple(sorted({path.parent.name for folder in _folders() for path in folder.glob("*/contract.py")}))


def _require_op(op: str) -> None:
    if op not in ops():
        raise KeyError(f"unknown operation {op!r}; known: {', '.join(ops())}")


@functools.cache
def contract(op: str) -> OpContract:
    """The contract of an operation.

    Raises:
        KeyError: no such operation.
    """
    _require_op(op)
    return importlib.import_module(f"truffle.kernels.{op}.contract").CONTRACT


@functools.cache
def names(op: str) -> tuple[str, ...]:
    """Names of the implementations of `op`, usable or not, the reference first."""
    _require_op(op)
    stems = {path.stem for folder in _folders() for path in (folder / op).glob("*.py")} - {"contract"}
    return tuple(sorted(stems, key=lambda stem: (stem != "reference", stem)))


def why_not(op: str, name: str) -> str | None:
    """Why implementation `name` of `op` cannot run here, or None when it can."""
    if name not in names(op):
        return f"there is no {op}/{name}"
    try:
        importlib.import_module(f"truffle.kernels.{op}.{name}")
    except ImportError as error:
        return f"cannot be imported: {error}"
    needs = _registered[op, name].needs
    missing = [package for package in needs.packages if importlib.util.find_spec(package) is None]
    if missing:
        extra = f" (pip install 'truffle-attention[{needs.extra}]')" if needs.extra else ""
        return f"needs {', '.join(missing)}{extra}"
    if needs.device == "cuda" and not interpreted(name) and not _has_cuda():
        return "needs a CUDA device"
    return None


def interpreted(name: str) -> bool:
    """Whether the implementations of this name run without a GPU here, interpreted."""
    return name == "gpu_triton" and os.environ.get("TRITON_INTERPRET") == "1"


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def usable(op: str) -> dict[str, str | None]:
    """Each implementation of `op`, with None where it runs here and the reason where it does not."""
    return {name: why_not(op, name) for name in names(op)}


def get(op: str, name: str = "auto", device: str = "cpu") -> Implementation:
    """The implementation `name` of `op`, or the best usable one on `device` for ``"auto"``.

    Raises:
        KeyError: no such operation.
        Unusable: it cannot run here; the message says why, and which can.
    """
    if name == "auto":
        return _pick(op, device)
    reason = why_not(op, name)
    if reason:
        others = [other for other, problem in usable(op).items() if problem is None]
        raise Unusable(f"{op}/{name} is not usable: {reason}; usable here: {', '.join(others)}")
    return _registered[op, name]


@functools.cache
def _pick(op: str, device: str) -> Implementation:
    for name in FIRST.get((op, device), ()) + PREFERENCE[device]:
        if why_not(op, name) is None:
            log.info("%s: auto took %s", op, name)
            return _registered[op, name]
    raise Unusable(f"no implementation of {op} is usable on {device}: {usable(op)}")
