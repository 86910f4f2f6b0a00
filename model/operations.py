"""The operations a decoder calls, resolved once from its config."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from truffle.kernels import registry
from truffle.kernels.contract import Needs
from truffle.kernels.registry import Implementation
from truffle.model.config import DecodeConfig, Execution
from truffle.model.staging import Courier

# Where each operation's tensors live; the rest of a step stays on the model's own device.
HOST_OPS = ("build_tables", "direct_probes", "retrieve", "sparse_attend", "retrieve_attend")
DEVICE_OPS = ("hash_codes", "dense_attend", "merge_states")


class Operations:
    """Callables by operation name, with threads, ISA and pinning bound.

    Attributes:
        names: the implementation that was taken for each operation.
        team: `threads` and `pinning` of the CPU's side, for memory that its threads will read.
        courier: brings what the operations of the device have made to the host.
    """

    hash_codes: Callable[..., None]
    build_tables: Callable[..., None]
    direct_probes: Callable[..., None]
    retrieve: Callable[..., None]
    sparse_attend: Callable[..., None]
    retrieve_attend: Callable[..., None]
    dense_attend: Callable[..., None]
    merge_states: Callable[..., None]

    def __init__(self, config: DecodeConfig, device: str) -> None:
        """Resolve every operation.

        Raises:
            Unusable: an implementation named in the config cannot run here.
            KeyError: the config names an operation that does not exist.
        """
        unknown = set(config.implementations) - set(HOST_OPS + DEVICE_OPS)
        if unknown:
            raise KeyError(f"implementations: unknown operation {sorted(unknown)[0]!r}")
        self.names: dict[str, str] = {}
        self._taken: dict[str, tuple[Implementation, dict[str, Any]]] = {}
        self.courier = Courier(torch.device(device))
        self.team: dict[str, Any] = {"threads": config.execution.threads, "pinning": config.execution.pinning}
        for op in HOST_OPS + DEVICE_OPS:
            where = "cpu" if op in HOST_OPS else device
            implementation = registry.get(op, config.implementations.get(op, "auto"), where)
            how = _execution(config.execution, implementation.needs)
            self._taken[op] = implementation, how
            setattr(self, op, partial(implementation, **how))
            self.names[op] = implementation.name

    def repeated(self, op: str, *args: Any, **kwargs: Any) -> Callable[[], None]:
        """The operation on arguments that stay what they are but for their contents: checked on the first call only."""
        implementation, how = self._taken[op]
        return _Repeated(partial(implementation, *args, **kwargs, **how), implementation.function)


class _Repeated:
    """A call whose arguments are checked once."""

    def __init__(self, checked: partial[None], unchecked: Callable[..., None]) -> None:
        self._call, self._then = checked, partial(unchecked, *checked.args, **checked.keywords)

    def __call__(self) -> None:
        self._call()
        self._call = self._then


def _execution(execution: Execution, needs: Needs) -> dict[str, Any]:
    """What an implementation is told of how to run: the parts that it knows."""
    isa = execution.isa if execution.isa in needs.isas else "auto"
    pinning = execution.pinning if execution.pinning in needs.pinning else "none"
    return {"threads": execution.threads, "isa": isa, "pinning": pinning}
