"""A sampled layer whose codes the device has and scans: it tells the host which of the rows there to attend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from truffle.kernels.linked import shared
from truffle.model.cache import ExactCache
from truffle.model.methods.exchange import Exchange
from truffle.model.methods.sampled import SampledLayer
from truffle.model.methods.scan import ScanSelector
from truffle.model.methods.selector import Selection, distinct_of
from truffle.model.operations import Operations


class ScannedExchange(Exchange):
    """An exchange whose device draws, and tells the host the sample.

    Codes grow in place, so that what was captured holds after a seal; `count_stored` tells the device of it. A sample
    is made in the device's memory and crosses the link as a whole: by the key, it would in pieces of four bytes.

    Attributes:
        sample: as it has arrived on the host, with room for samples of codes that have filled theirs; None where
            nothing is stored.
    """

    sample: Selection | None = None
    _scan: Callable[[], None] | None = None

    def __init__(self, host: ScannedLayer, exact: ExactCache, ops: Operations, requests: range, heads: int) -> None:
        super().__init__(host, exact, ops, requests, heads)
        self._selector, device = host.selector, self.query.device
        self._stored = torch.zeros(len(requests), dtype=torch.int32, device=device)  # and the token of the step
        self._step = torch.zeros_like(self._stored)
        self._turned = torch.empty(self.query.shape, device=device)
        if self._selector.holds(requests):
            lists, room = self._selector.room(requests, heads)
            there, here = shared((_sample_words(lists, room),), torch.int32, device)
            here.zero_()
            self.sample = _sample_in(here, lists, room)
            self._drawn, self._arriving = (there, None) if there is here else (torch.zeros_like(there), there)
            drawn = _sample_in(self._drawn, lists, room)
            self._scan = self._selector.scan(self._turned, requests, self._step, drawn)

    def count_stored(self, lengths: Sequence[int]) -> None:
        """Tell the device how many rows requests have in store."""
        self._stored.copy_(torch.tensor([length + 1 for length in lengths], dtype=torch.int32))

    def ask(self, q: torch.Tensor) -> None:
        super().ask(q)
        if self._scan is None:
            return
        torch.add(self._exact.in_use[self._rows], self._stored, out=self._step)
        self._selector.turned(self.query, self._turned)
        self._scan()
        if self._arriving is not None:
            torch.bitwise_or(self._drawn, 0, out=self._arriving)  # by a kernel: a copy would start later

    def release(self) -> None:
        """Hold no codes, which have moved: the old ones are to go before those of the next layer grow."""
        self._scan = None

    @property
    def bytes_to_host(self) -> int:
        """The query, and all the room of the sample."""
        return self.q.nbytes + (self._drawn.nbytes if self.sample else 0)


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

    def _forget_steps(self) -> None:
        for exchange in self._exchanges:
            exchange.release()
        super()._forget_steps()

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


def _sample_words(lists: int, room: int) -> int:
    return 2 * _aligned(lists * room) + _aligned(lists)


def _sample_in(block: torch.Tensor, lists: int, room: int) -> Selection:
    """A sample in a block of 32-bit words."""
    size = _aligned(lists * room)
    ids, log_weight = (block[start : start + lists * room].view(lists, room) for start in (0, size))
    return Selection(ids, block[2 * size : 2 * size + lists], log_weight=log_weight.view(torch.float32))


def _aligned(words: int) -> int:
    return -(-words // 4) * 4
