"""A layer that attends sink, open segment and window exactly and samples the rest."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from truffle.kernels.collision import InclusionLaw
from truffle.kernels.store import Store
from truffle.model.background import Later, at_once
from truffle.model.cache import ExactCache
from truffle.model.methods.base import Usage
from truffle.model.methods.exchange import Exchange
from truffle.model.operations import Operations
from truffle.model.staging import Arrival


@dataclass(frozen=True)
class Selection:
    """Rows of the store to attend, and how likely each was to be chosen.

    Attributes:
        ids: [B*H, capacity] int32; count: [B*H] int32 in use.
        center, law: inclusion by angle to the centred key, [B, Hkv, d] float32; or
        log_weight: ln of the inclusion probabilities, [B*H, capacity] float32.
    """

    ids: torch.Tensor
    count: torch.Tensor
    center: torch.Tensor | None = None
    law: InclusionLaw | None = None
    log_weight: torch.Tensor | None = None


class Selector(Protocol):
    """Chooses rows of the stores of a batch of requests."""

    def add(self, request: int, keys: torch.Tensor) -> Callable[[], None]:
        """Take the next keys of a request, [Hkv, m, d], as they enter its store; returns what remains for the host.

        That is to be called once the device has done what was launched, in the order of these calls.
        """
        ...

    @property
    def question(self) -> tuple[tuple[int, ...], torch.dtype]:
        """What choosing needs to know of a query head: shape and dtype."""
        ...

    def ask(self, q: torch.Tensor, question: torch.Tensor) -> None:
        """Fill question [b, H, ...] from q [b, H, d], on the device of both."""
        ...

    def choose(
        self, question: torch.Tensor, requests: range, count: torch.Tensor, capacity: int
    ) -> tuple[Callable[[], None], Selection]:
        """A call that chooses by what the question holds then, among at most `capacity` rows a request, and where
        it puts what it finds; both are valid until the next `add` or `keep`."""
        ...

    def keep(self, requests: list[int]) -> None:
        """Forget all requests but these."""
        ...

    def twin(self) -> Selector:
        """Another with the same contents, of which what each adds is its own."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Size of the index."""
        ...


class SampledLayer:
    """A LayerCache in three parts: exact slots [sink | open segment | window], stores, and a selector.

    A token is exact while it is in the window and in the open segment behind it; when the open segment
    holds `seal_tokens`, all of it moves to the store at once, between two steps. A prompt's middle moves at prefill
    unless it is shorter than that, so a prompt of any length works and short ones are exact.
    """

    def __init__(
        self,
        sink: int,
        window: int,
        seal_tokens: int,
        store_dtype: torch.dtype,
        selector: Selector,
        ops: Operations,
    ) -> None:
        self._sink, self._window, self._seal_tokens = sink, window, seal_tokens
        self._store_dtype, self.selector, self._ops = store_dtype, selector, ops
        self._exchanges: list[Exchange] = []

    def prefill(self, keys: list[torch.Tensor], values: list[torch.Tensor], later: Later = at_once) -> None:
        self.stores: list[Store] = []
        self.selector.keep([])
        capacity = self._sink + self._seal_tokens + self._window
        self._exact = ExactCache(*self._sealed(keys, values, later), capacity=capacity)
        self._end_exchanges()

    def admit(self, keys: list[torch.Tensor], values: list[torch.Tensor], later: Later = at_once) -> None:
        self._exact.extend(*self._sealed(keys, values, later))
        self._end_exchanges()

    def _sealed(
        self, keys: list[torch.Tensor], values: list[torch.Tensor], later: Later
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Make stores for new requests and move their prompts' middles there; returns what stays exact."""
        heads, _, d = keys[0].shape
        exact_keys, exact_values = [], []
        for request, (key, value) in enumerate(zip(keys, values, strict=True), len(self.stores)):
            n = key.shape[1]
            middle = max(0, n - self._sink - self._window)
            sealed = middle if middle >= self._seal_tokens else 0
            self.stores.append(Store.allocate(heads, 0, d, self._store_dtype))
            if sealed:
                end = self._sink + sealed
                self._seal(request, key[:, self._sink : end], value[:, self._sink : end], later)
            exact_keys.append(torch.cat([key[:, : self._sink], key[:, self._sink + sealed :]], dim=1))
            exact_values.append(torch.cat([value[:, : self._sink], value[:, self._sink + sealed :]], dim=1))
        return exact_keys, exact_values

    def _seal(self, request: int, keys: torch.Tensor, values: torch.Tensor, later: Later = at_once) -> None:
        """Move keys and values [Hkv, m, d] into the store; what is indexed is the stored, rounded key.

        The device makes rows and codes, and what they take there is free when the host has copied them.
        """
        made = Store.holding(keys, values, self._store_dtype)
        index = self.selector.add(request, made.keys)
        arrival = Arrival(keys.device, asleep=True)
        arrival.mark()

        def take() -> None:
            arrival.wait()
            index()
            self._append(request, made)

        later(take)

    def _append(self, request: int, made: Store) -> None:
        held = self.stores[request]
        longer = held.longer(made.length, **self._ops.team)
        self._ops.courier.carry(made.rows, longer.rows[:, held.length : longer.length])
        self.stores[request] = longer

    def twin(self) -> SampledLayer:
        """Another layer with the same contents; stores and tables are shared until one of the two seals."""
        other = copy.copy(self)
        other._exact, other.selector = self._exact.twin(), self.selector.twin()
        other.stores, other._exchanges = list(self.stores), []
        return other

    def make_room(self) -> bool:
        full = [request for request, length in enumerate(self._exact.lengths) if length == self._exact.capacity]
        for request in full:
            self._seal(request, *self._exact.take(request, self._sink, self._seal_tokens))
        if full:
            self._stores_changed()
        return False

    def _stores_changed(self) -> None:
        for exchange in self._exchanges:
            exchange.forget()

    def _end_exchanges(self) -> None:
        self._stores_changed()  # whoever still holds an exchange holds no store
        self._exchanges = []

    def count_token(self) -> None:
        self._exact.count_token()

    def rewind(self) -> None:
        self._exact.rewind()

    def exchanges(self, parts: list[range], heads: int) -> list[Exchange]:
        """Exchanges for parts of the batch that cover it, queries of `heads` heads; these replace all others."""
        self._end_exchanges()
        self._exchanges = [Exchange(self, self._exact, self._ops, part, heads) for part in parts]
        return self._exchanges

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
        if self._longest(exchange) == 0:
            return lambda: _nothing_sampled(exchange)
        return self._attending(exchange)

    def _longest(self, exchange: Exchange) -> int:
        return max(self.stores[request].length for request in exchange.requests)

    def _attending(self, exchange: Exchange) -> Callable[[], None]:
        e, longest = exchange, self._longest(exchange)
        find, chosen = self.selector.choose(e.question, e.requests, e.count, longest)
        attend = self._ops.repeated(
            "sparse_attend", e.q, self._stores_of(e), chosen.ids, chosen.count, chosen.center, chosen.law,
            chosen.log_weight, e.out, e.lse, scale=e.q.shape[-1] ** -0.5,
        )  # fmt: skip

        def call() -> None:
            find()
            attend()

        return call

    def _stores_of(self, exchange: Exchange) -> list[Store]:
        return [self.stores[request] for request in exchange.requests]

    def keep(self, requests: list[int]) -> None:
        self._exact.keep(requests)
        self.selector.keep(requests)
        self.stores = [self.stores[request] for request in requests]
        self._end_exchanges()

    def usage(self) -> Usage:
        exact = torch.tensor(self._exact.lengths)
        opened = (exact - self._sink - self._window).clamp_min(0)
        stored = torch.tensor([store.length for store in self.stores])
        sampled = torch.cat([exchange.count.view(exchange.lse.shape) for exchange in self._exchanges])
        return Usage(opened[:, None] + sampled, opened + stored, exact + stored)

    def rows(self) -> torch.Tensor:
        rows = torch.tensor(self._exact.lengths)[:, None].repeat(1, self.stores[0].rows.shape[0])
        for exchange in self._exchanges:
            if self._longest(exchange):
                rows[exchange.requests.start : exchange.requests.stop] += self._distinct(exchange, rows.shape[1])
        return rows

    def _distinct(self, exchange: Exchange, kv_heads: int) -> torch.Tensor:
        """Rows of the stores that the last step of an exchange read, [b, Hkv]; they are found again."""
        find, chosen = self.selector.choose(
            exchange.question, exchange.requests, torch.empty_like(exchange.count), self._longest(exchange)
        )
        find()
        heads = chosen.ids.view(len(exchange.requests), kv_heads, -1, chosen.ids.shape[1])  # [b, Hkv, G, capacity]
        counts = chosen.count.view(heads.shape[:3])
        distinct = torch.empty(heads.shape[:2], dtype=torch.int64)
        for b, g in itertools.product(*map(range, distinct.shape)):
            read = [ids[:count] for ids, count in zip(heads[b, g], counts[b, g], strict=True)]
            distinct[b, g] = len(torch.cat(read).unique())
        return distinct

    @property
    def memory_bytes(self) -> int:
        rows = sum(store.rows.nbytes for store in self.stores)
        return self._exact.memory_bytes + rows + self.selector.memory_bytes


def _nothing_sampled(exchange: Exchange) -> None:
    exchange.out.zero_()
    exchange.lse.fill_(-torch.inf)
    exchange.count.zero_()
