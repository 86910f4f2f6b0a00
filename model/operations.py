"""The operations a decoder calls, resolved once from its config."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from truffle.kernels import registry
from truffle.kernels.checks import expect
from truffle.kernels.contract import Needs
from truffle.kernels.registry import Implementation
from truffle.model.config import DecodeConfig, Execution
from truffle.model.staging import Courier

# Where each operation's tensors live: on the host, with the stores, or with the model.
HOST_OPS = ("direct_probes", "retrieve_attend")
STORE_OPS = ("build_tables", "retrieve", "sparse_attend")
DEVICE_OPS = ("hash_codes", "dense_attend", "merge_states")
SCAN_OPS = ("quantize_keys", "scan_sample")  # with the model and with the stores, where the method is scan
BLOCK_OPS = ("rms_norm", "rotate_heads", "swiglu")  # on what the decoder alone has made: nothing is checked
ALL_OPS = HOST_OPS + STORE_OPS + DEVICE_OPS + SCAN_OPS + BLOCK_OPS


class Operations:
    """Callables by operation name, with threads, ISA and pinning bound.

    Attributes:
        names: the implementation that was taken for each operation.
        home: where stores and tables are: the host, or the model's own device where the config has them reside there.
        team: `home`, and `threads` and `pinning` of the CPU's side, for memory that its threads will read.
        rows_team: the same for the rows of stores, which a device may read over the link.
        codes_team: the same for the codes of a scan, which may be with the model where stores are not.
        scans_beside: whether they are, and the device asks the host for what it has drawn.
        courier: brings what the operations of the device have made home.
    """

    hash_codes: Callable[..., None]
    build_tables: Callable[..., None]
    direct_probes: Callable[..., None]
    retrieve: Callable[..., None]
    sparse_attend: Callable[..., None]
    retrieve_attend: Callable[..., None]
    dense_attend: Callable[..., None]
    merge_states: Callable[..., None]
    quantize_keys: Callable[..., None]
    scan_sample: Callable[..., None]
    rms_norm: Callable[..., None]
    rotate_heads: Callable[..., None]
    swiglu: Callable[..., None]

    def __init__(self, config: DecodeConfig, device: str) -> None:
        """Resolve every operation.

        Raises:
            Unusable: an implementation named in the config cannot run here.
            ArgumentError: it takes tensors of another device than the operation's.
            KeyError: the config names an operation that does not exist.
        """
        unknown = set(config.implementations) - set(ALL_OPS)
        if unknown:
            raise KeyError(f"implementations: unknown operation {sorted(unknown)[0]!r}")
        self.names: dict[str, str] = {}
        self._taken: dict[str, tuple[Implementation, dict[str, Any]]] = {}
        self.courier = Courier(torch.device(device))
        self.home = torch.device(device if config.resident else "cpu")
        how = config.execution
        self.team: dict[str, Any] = {"threads": how.threads, "pinning": how.pinning, "device": self.home}
        self.rows_team = self.team | {"linked": config.linked}
        self.scans_beside = config.scans_beside(device)
        self.codes_team = self.team | ({"device": torch.device(device)} if self.scans_beside else {})
        places = {HOST_OPS: "cpu", STORE_OPS: self.home.type, DEVICE_OPS: device, BLOCK_OPS: device}
        if config.scans:
            places |= {SCAN_OPS[:1]: device, SCAN_OPS[1:]: self.codes_team["device"].type}
        for op, where in ((op, where) for ops, where in places.items() for op in ops):
            implementation = _found(op, config.implementations.get(op, "auto"), where)
            told = _execution(how, implementation.needs)
            self._taken[op] = implementation, told
            call = implementation.function if op in BLOCK_OPS else implementation
            setattr(self, op, partial(call, **told))
            self.names[op] = implementation.name

    def repeated(self, op: str, *args: Any, **kwargs: Any) -> Callable[[], None]:
        """The operation on arguments that stay what they are but for their contents: checked on the first call only."""
        implementation, how = self._taken[op]
        return _Repeated(partial(implementation, *args, **kwargs, **how), implementation.function)


def _found(op: str, name: str, where: str) -> Implementation:
    """The implementation of that name, for tensors on `where`."""
    found = registry.get(op, name, where)
    fits = found.needs.device in ("any", where) or registry.interpreted(found.name)
    expect(fits, "implementations", f"one of {op} for {where} tensors", f"{name}, for {found.needs.device} tensors")
    return found


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
