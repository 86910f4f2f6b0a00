"""The operations a decoder calls, resolved once from its config."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from truffle.kernels import registry
from truffle.model.config import DecodeConfig

# Where each operation's tensors live; the rest of a step stays on the model's own device.
HOST_OPS = ("build_tables", "retrieve", "sparse_attend")
DEVICE_OPS = ("hash_codes", "dense_attend", "merge_states")


class Operations:
    """Callables by operation name, with threads and ISA bound.

    Attributes:
        names: the implementation that was taken for each operation.
    """

    hash_codes: Callable[..., None]
    build_tables: Callable[..., None]
    retrieve: Callable[..., None]
    sparse_attend: Callable[..., None]
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
        for op in HOST_OPS + DEVICE_OPS:
            where = "cpu" if op in HOST_OPS else device
            implementation = registry.get(op, config.implementations.get(op, "auto"), where)
            isa = config.execution.isa if config.execution.isa in implementation.needs.isas else "auto"
            setattr(self, op, partial(implementation, threads=config.execution.threads, isa=isa))
            self.names[op] = implementation.name
