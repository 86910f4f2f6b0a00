"""A sampled layer whose codes the device has and scans: it tells the host which of the rows there to attend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from truffle.model.cache import ExactCache
from truffle.model.methods.exchange import Exchange
from truffle.model.methods.sampled import SampledLayer
from truffle.model.methods.scan import ScanSelector
from truffle.model.methods.selector import Selection, distinct_of
from truffle.model.operations import Operations
from truffle.model.staging import shared


class ScannedExchange(Exchange):
    """An exchange whose device draws, and writes the sample to memory that both sides share.

    Codes grow in place, so that what was captured holds after a seal; `count_stored` tells the device of it.

    Attributes:
        sample: as it has arrived on the host, [b*R, room] and [b*R], with room for samples of codes that have filled
            theirs; None where nothing is stored.
    """

    sample: Selection | None = None

    def __init__(self, host: ScannedLayer, exact: ExactCache, ops: Operations, requests: range, heads: int) -> None:
        super().__init__(host, exact, ops, requests, heads)
        self._selector, device = host.selector, self.query.device
        self._stored = torch.zeros(len(requests), dtype=torch.int32, device=device)  # and the token of the step
        self._step = torch.zeros_like(self._stored)
        self._turned = torch.empty(self.query.shape, device=device)
        if self._selector.holds(requests):
            lists, room = self._selector.room(requests, heads)
            there, self.sample = _shared_sample(lists, room, device)
            self._scan = self._selector.scan(self._turned, requests, self._step, there)

    def count_stored(self, lengths: Sequence[int]) -> None:
        """Tell the device how many rows requests have in store."""
        self._stored.copy_(torch.tensor([length + 1 for length in lengths], dtype=torch.int32))

    def ask(self, q: torch.Tensor) -> None:
        super().ask(q)
        if self.sample is not None:
            torch.add(self._exact.in_use[self._rows], self._stored, out=self._step)
            self._selector.ask(self.query, self._turned)
            self._scan()

    @property
    def bytes_to_host(self) -> int:
        """The query, and of the last sample the size, ids and weights; what room there is beside is not written."""
        if self.sample is None:
            return self.q.nbytes
        return self.q.nbytes + self.sample.count.nbytes + 8 * int(self.sample.count.sum())


class ScannedLayer(SampledLayer):
    """An ExchangingLayer whose memory on the device moves only when the room of its codes is full."""

    selector: ScanSelector
    _exchanges: Sequence[ScannedExchange] = ()
    question = ((0,), torch.uint8)  # beside the query the host is told the sample

    def _exchange(self, requests: range, heads: int) -> ScannedExchange:
        exchange = ScannedExchange(self, self._exact, self._ops, requests, heads)
        self._count_stored(exchange)
        return exchange

    def _count_stored(self, exchange: ScannedExchange) -> None:
        exchange.count_stored([self.stores[request].length for request in exchange.requests])

    def make_room(self) -> bool:
        moves = self.selector.moves
        if not self._seal_full():
            return False
        if self.selector.moves != moves:
            self._forget_steps()
            return True
        self._stores_changed()
        for exchange in self._exchanges:
            self._count_stored(exchange)
        return False

    def ask(self, q: torch.Tensor, question: torch.Tensor) -> None:
        """Nothing beside q."""

    def _attending(self, exchange: Exchange) -> Callable[[], None]:
        assert isinstance(exchange, ScannedExchange)
        e, chosen = exchange, exchange.sample
        assert chosen is not None
        attend = self._ops.repeated(
            "sparse_attend", e.q, self._stores_of(e), chosen.ids, chosen.count, None, None, chosen.log_weight,
            e.out, e.lse, scale=e.q.shape[-1] ** -0.5,
        )  # fmt: skip
        b, lists = len(e.requests), len(chosen.count) // len(e.requests)
        of_heads, of_lists = e.count.view(b, lists, -1), chosen.count.view(b, lists, 1)

        def call() -> None:
            of_heads.copy_(of_lists)
            attend()

        return call

    def rows(self) -> torch.Tensor:
        rows = self._exact_rows()
        for e in self._exchanges:
            if e.sample is not None:
                found = distinct_of(e.sample, len(e.requests), rows.shape[1])
                rows[e.requests.start : e.requests.stop] += found
        return rows


def _shared_sample(lists: int, room: int, device: torch.device) -> tuple[Selection, Selection]:
    """Memory for an empty sample, as the device sees it and as the host does."""
    ids, log_weight = (shared((lists, room), kind, device) for kind in (torch.int32, torch.float32))
    count = shared((lists,), torch.int32, device)
    count[1].zero_()
    there, here = (Selection(i, c, log_weight=w) for i, c, w in zip(ids, count, log_weight, strict=True))
    return there, here
