"""A sampled layer whose stores and tables lie on the host, which attends to what is sampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Self

import torch

from truffle.kernels.store import Store
from truffle.model.methods.exchange import Exchange
from truffle.model.methods.sealing import SealingLayer
from truffle.model.methods.selector import distinct_rows


class SampledLayer(SealingLayer):
    """An ExchangingLayer: its memory on the device stays where it is, seals or not."""

    _exchanges: Sequence[Exchange] = ()

    def _forget_steps(self) -> None:
        self._stores_changed()  # whoever still holds an exchange holds no store
        self._exchanges = ()

    def _stores_changed(self) -> None:
        for exchange in self._exchanges:
            exchange.forget()

    def twin(self) -> Self:
        other = super().twin()
        other._exchanges = ()
        return other

    def make_room(self) -> bool:
        if self._seal_full():
            self._stores_changed()
        return False

    def exchanges(self, parts: list[range], heads: int) -> list[Exchange]:
        """Exchanges for parts of the batch that cover it, queries of `heads` heads; these replace all others."""
        self._forget_steps()
        self._exchanges = made = [self._exchange(part, heads) for part in parts]
        return made

    def _exchange(self, requests: range, heads: int) -> Exchange:
        return Exchange(self, self._exact, self._ops, requests, heads)

    def decode(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        self.make_room()
        self.count_token()
        if len(self._exchanges) != 1:
            self.exchanges([range(len(q))], q.shape[1])
        return self._exchanges[0].whole(q, keys, values)

    @property
    def question(self) -> tuple[tuple[int, ...], torch.dtype]:
        """What the host is told of a query head beside the query: shape and dtype."""
        return self.selector.question

    def ask(self, q: torch.Tensor, question: torch.Tensor) -> None:
        """Fill question [b, H, ...] from q [b, H, d] on the device."""
        self.selector.ask(q, question)

    def answering(self, exchange: Exchange) -> Callable[[], None]:
        """A call, valid until the stores change, that attends to what an exchange's queries sample."""
        if self._longest(exchange.requests) == 0:
            return lambda: _nothing_sampled(exchange)
        return self._attending(exchange)

    def _attending(self, exchange: Exchange) -> Callable[[], None]:
        e = exchange
        longest, cached = self._longest(e.requests), partial(self._cached, e.requests)
        find, chosen = self.selector.choose(e.question, e.requests, e.count, longest, cached)
        attend = self._ops.repeated(
            "sparse_attend", e.q, self._stores_of(e), chosen.ids, chosen.count, chosen.center, chosen.law,
            chosen.log_weight, e.out, e.lse, scale=e.q.shape[-1] ** -0.5,
        )  # fmt: skip

        def call() -> None:
            find()
            attend()

        return call

    def _cached(self, requests: range) -> torch.Tensor:
        return torch.tensor([self._exact.lengths[r] + self.stores[r].length for r in requests], dtype=torch.int32)

    def _stores_of(self, exchange: Exchange) -> list[Store]:
        return [self.stores[request] for request in exchange.requests]

    def _sampled(self) -> torch.Tensor:
        return torch.cat([exchange.count.view(exchange.lse.shape) for exchange in self._exchanges])

    def rows(self) -> torch.Tensor:
        rows = self._exact_rows()
        for e in self._exchanges:
            if longest := self._longest(e.requests):
                cached = partial(self._cached, e.requests)
                found = distinct_rows(self.selector, e.question, e.requests, rows.shape[1], longest, cached)
                rows[e.requests.start : e.requests.stop] += found
        return rows


def _nothing_sampled(exchange: Exchange) -> None:
    exchange.out.zero_()
    exchange.lse.fill_(-torch.inf)
    exchange.count.zero_()
