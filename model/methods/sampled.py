"""A layer that attends sink, open segment and window exactly and samples the rest."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol

import torch

from truffle.kernels.collision import InclusionLaw
from truffle.kernels.quantise import as_stored
from truffle.kernels.store import Store
from truffle.model.cache import ExactCache
from truffle.model.methods.base import Usage
from truffle.model.operations import Operations


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

    def add(self, request: int, keys: torch.Tensor) -> None:
        """Take the next keys of a request, [Hkv, m, d], as they enter its store."""
        ...

    def select(self, q: torch.Tensor, capacity: int) -> Selection:
        """Choose for q [B, H, d] among at most `capacity` rows a request."""
        ...

    def keep(self, requests: list[int]) -> None:
        """Forget all requests but these."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Size of the index."""
        ...


class SampledLayer:
    """A LayerCache in three parts: exact slots [sink | open segment | window], stores, and a selector.

    A token is exact while it is in the window and in the open segment behind it; when the open segment
    holds `seal_tokens`, all of it moves to the store at once. A prompt's middle moves at prefill unless it
    is shorter than that, so a prompt of any length works and short ones are exact.
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

    def prefill(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        self.stores: list[Store] = []
        self.selector.keep([])
        self._exact = ExactCache(*self._sealed(keys, values))

    def admit(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        self._exact.extend(*self._sealed(keys, values))

    def _sealed(
        self, keys: list[torch.Tensor], values: list[torch.Tensor]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Make stores for new requests and move their prompts' middles there; returns what stays exact."""
        heads, _, d = keys[0].shape
        exact_keys, exact_values = [], []
        for request, (key, value) in enumerate(zip(keys, values, strict=True), len(self.stores)):
            n = key.shape[1]
            middle = max(0, n - self._sink - self._window)
            sealed = middle if middle >= self._seal_tokens else 0
            self.stores.append(Store.allocate(heads, sealed, d, self._store_dtype, **self._ops.team))
            if sealed:
                end = self._sink + sealed
                self._seal(request, key[:, self._sink : end], value[:, self._sink : end])
            exact_keys.append(torch.cat([key[:, : self._sink], key[:, self._sink + sealed :]], dim=1))
            exact_values.append(torch.cat([value[:, : self._sink], value[:, self._sink + sealed :]], dim=1))
        return exact_keys, exact_values

    def _seal(self, request: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Move keys and values [Hkv, m, d] into the store; what is indexed is the stored, rounded key."""
        self.selector.add(request, as_stored(keys, self._store_dtype))
        self.stores[request] = self.stores[request].appended(keys.cpu(), values.cpu(), **self._ops.team)

    def decode(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        self._heads = q.shape[1]
        self._exact.append(keys, values)
        for request, length in enumerate(self._exact.lengths):
            if length > self._sink + self._seal_tokens + self._window:
                self._seal(request, *self._exact.take(request, self._sink, self._seal_tokens))
        out, lse = self._exact.attend(q, self._ops)
        if self._longest == 0:
            self._sampled = None
            return out
        sampled, sampled_lse = torch.empty(q.shape, dtype=torch.float32), torch.empty(q.shape[:2], dtype=torch.float32)
        self._sampled = self._attend_sample(q, sampled, sampled_lse)
        merged, total = torch.empty_like(out), torch.empty_like(lse)
        outs = torch.stack([out, sampled.to(q.device)])
        self._ops.merge_states(outs, torch.stack([lse, sampled_lse.to(q.device)]), merged, total)
        return merged

    @property
    def _longest(self) -> int:
        return max(store.length for store in self.stores)

    def _attend_sample(self, q: torch.Tensor, out: torch.Tensor, lse: torch.Tensor) -> torch.Tensor:
        """Attend to what q [B, H, d] samples from the stores; returns how many keys that were, [B*H] int32."""
        chosen = self._selection = self.selector.select(q, self._longest)
        self._ops.sparse_attend(
            q.cpu(), self.stores, chosen.ids, chosen.count, chosen.center, chosen.law, chosen.log_weight,
            out, lse, scale=q.shape[-1] ** -0.5,
        )  # fmt: skip
        return chosen.count

    def _selected(self) -> Selection:
        """What the last step sampled."""
        return self._selection

    def keep(self, requests: list[int]) -> None:
        self._exact.keep(requests)
        self.selector.keep(requests)
        self.stores = [self.stores[request] for request in requests]

    def usage(self) -> Usage:
        exact = torch.tensor(self._exact.lengths)
        opened = (exact - self._sink - self._window).clamp_min(0)
        stored = torch.tensor([store.length for store in self.stores])
        sampled = 0 if self._sampled is None else self._sampled.view(len(stored), -1)
        attended = (opened[:, None] + sampled).expand(-1, self._heads)
        return Usage(attended, opened + stored, exact + stored)

    def rows(self) -> torch.Tensor:
        rows = torch.tensor(self._exact.lengths)[:, None].repeat(1, self.stores[0].rows.shape[0])
        if self._sampled is None:
            return rows
        chosen = self._selected()
        heads = chosen.ids.view(*rows.shape, -1, chosen.ids.shape[1])  # [B, Hkv, G, capacity]
        counts = chosen.count.view(heads.shape[:3])
        for b, g in itertools.product(*map(range, rows.shape)):
            read = [ids[:count] for ids, count in zip(heads[b, g], counts[b, g], strict=True)]
            rows[b, g] += len(torch.cat(read).unique())
        return rows

    @property
    def memory_bytes(self) -> int:
        rows = sum(store.rows.nbytes for store in self.stores)
        return self._exact.memory_bytes + rows + self.selector.memory_bytes
