"""Exact attention in two parts at once: the device's over what it keeps, the host's over the rest."""

from __future__ import annotations

from collections.abc import Callable

import torch

from truffle.bench.rivals.split import SplitLayer
from truffle.kernels.memory import allocate
from truffle.model.methods.exchange import Exchange
from truffle.model.operations import Operations


class HostedLayer(SplitLayer):
    """An ExchangingLayer; the host answers with exact attention, by `host_ops`, operations that are all the CPU's."""

    question = ((0,), torch.uint8)  # the query says it all

    def __init__(self, resident: int, ops: Operations, host_ops: Operations) -> None:
        super().__init__(resident, ops)
        self._host_ops = host_ops

    def _host(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        self._keys, self._values = (self._gathered(parts) for parts in (keys, values))
        self._lengths = torch.tensor(self.hosted, dtype=torch.int32)

    def _gathered(self, parts: list[torch.Tensor]) -> torch.Tensor:
        heads, _, d = parts[0].shape
        shape = (len(parts), heads, max(1, *self.hosted), d)
        gathered = allocate(shape, parts[0].dtype, **self._host_ops.team)
        for row, part in zip(gathered, parts, strict=True):
            row[:, : part.shape[1]] = part
        return gathered

    def exchanges(self, parts: list[range], heads: int) -> list[Exchange]:
        """Exchanges for parts of the batch that cover it, queries of `heads` heads."""
        return [Exchange(self, self._exact, self._ops, part, heads) for part in parts]

    def ask(self, q: torch.Tensor, question: torch.Tensor) -> None:
        """Nothing beside q."""

    def answering(self, exchange: Exchange) -> Callable[[], None]:
        """A call that attends to all that an exchange's requests have on the host."""
        e, rows = exchange, slice(exchange.requests.start, exchange.requests.stop)
        return self._host_ops.repeated(
            "dense_attend", e.q, self._keys[rows], self._values[rows], self._lengths[rows], e.out, e.lse,
            scale=e.q.shape[-1] ** -0.5,
        )  # fmt: skip
