"""A layer that attends sink, open segment and window exactly and keeps the rest in stores: who holds which token."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Self

import torch

from truffle.kernels.store import Store
from truffle.model.background import Later, at_once
from truffle.model.cache import ExactCache
from truffle.model.methods.base import Usage
from truffle.model.methods.selector import Selector
from truffle.model.operations import Operations
from truffle.model.staging import Arrival


class SealingLayer(ABC):
    """What sampled layers share, a LayerCache but for its steps: exact slots [sink | open segment | window], stores,
    and a selector.

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

    @abstractmethod
    def _forget_steps(self) -> None:
        """Other requests are decoded from now on: keep nothing that belongs to those there were."""

    def prefill(self, keys: list[torch.Tensor], values: list[torch.Tensor], later: Later = at_once) -> None:
        self.stores: list[Store] = []
        self.selector.keep([])
        capacity = self._sink + self._seal_tokens + self._window
        self._exact = ExactCache(*self._sealed(keys, values, later), capacity=capacity)
        self._forget_steps()

    def admit(self, keys: list[torch.Tensor], values: list[torch.Tensor], later: Later = at_once) -> None:
        self._exact.extend(*self._sealed(keys, values, later))
        self._forget_steps()

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
            self.stores.append(Store.allocate(heads, 0, d, self._store_dtype, **self._ops.rows_team))
            if sealed:
                end = self._sink + sealed
                self._seal(request, key[:, self._sink : end], value[:, self._sink : end], later)
            exact_keys.append(torch.cat([key[:, : self._sink], key[:, self._sink + sealed :]], dim=1))
            exact_values.append(torch.cat([value[:, : self._sink], value[:, self._sink + sealed :]], dim=1))
        return exact_keys, exact_values

    def _seal(self, request: int, keys: torch.Tensor, values: torch.Tensor, later: Later = at_once) -> None:
        """Move keys and values [Hkv, m, d] into the store; what is indexed is the stored, rounded key.

        The device makes rows and codes, and what they take there is free when they have been taken home.
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
        longer = held.longer(made.length, **self._ops.rows_team)
        self._ops.courier.carry(made.rows, longer.rows[:, held.length : longer.length])
        self.stores[request] = longer

    def twin(self) -> Self:
        """Another layer with the same contents; stores and tables are shared until one of the two seals."""
        other = copy.copy(self)
        other._exact, other.selector, other.stores = self._exact.twin(), self.selector.twin(), list(self.stores)
        return other

    def _seal_full(self) -> bool:
        """Seal the open segments that are full; returns whether there were any."""
        full = [request for request, length in enumerate(self._exact.lengths) if length == self._exact.capacity]
        for request in full:
            self._seal(request, *self._exact.take(request, self._sink, self._seal_tokens))
        return bool(full)

    def count_token(self) -> None:
        self._exact.count_token()

    def rewind(self) -> None:
        self._exact.rewind()

    def keep(self, requests: list[int]) -> None:
        self._exact.keep(requests)
        self.selector.keep(requests)
        self.stores = [self.stores[request] for request in requests]
        self._forget_steps()

    def _longest(self, requests: range) -> int:
        return max(self.stores[request].length for request in requests)

    @abstractmethod
    def _sampled(self) -> torch.Tensor:
        """Keys that the last step sampled by query head, [B, H], where it counted them."""

    def usage(self) -> Usage:
        exact = torch.tensor(self._exact.lengths)
        opened = (exact - self._sink - self._window).clamp_min(0)
        stored = torch.tensor([store.length for store in self.stores])
        sampled = self._sampled()
        return Usage(opened[:, None].to(sampled.device) + sampled, opened + stored, exact + stored)

    def _exact_rows(self) -> torch.Tensor:
        """Keys that the last step read in exact slots by key/value head, [B, Hkv]."""
        return torch.tensor(self._exact.lengths)[:, None].repeat(1, self._exact.keys.shape[1])

    @property
    def memory_bytes(self) -> int:
        rows = sum(store.rows.nbytes for store in self.stores)
        return self._exact.memory_bytes + rows + self.selector.memory_bytes
