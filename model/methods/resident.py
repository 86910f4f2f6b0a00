"""A sampled layer whose stores and tables lie on the model's own device, where all of its attention happens."""

from __future__ import annotations

import copy
from functools import partial
from typing import Self

import torch

from truffle.model.background import Later, at_once
from truffle.model.cache import ALL
from truffle.model.methods.sealing import SealingLayer
from truffle.model.methods.selector import distinct_rows


class ResidentLayer(SealingLayer):
    """A DeviceLayer. A step that was captured names stores and tables, so a seal has it captured anew.

    Tables are sorted on the device, a key/value head at a time, so that no code crosses the link. A store that is full
    is copied when it seals, to one with room for half as much again. Of a step's scratch only the question and the
    counts are kept: ids, of which there may be as many as keys for every query head, make way for the next layer's.
    """

    _asked: tuple[torch.Tensor, torch.Tensor] | None = None
    _stored: torch.Tensor | None = None  # lengths of the stores

    def _forget_steps(self) -> None:
        self._asked = self._stored = None

    def _seal(self, request: int, keys: torch.Tensor, values: torch.Tensor, later: Later = at_once) -> None:
        super()._seal(request, keys, values)  # it is the device's work alone

    def twin(self) -> Self:
        other = super().twin()
        other._forget_steps()
        return other

    def replica(self) -> Self:
        """Another layer with the same contents, in memory of its own."""
        other = self.twin()
        other.selector = copy.deepcopy(self.selector, {id(self._ops): self._ops})
        other.stores = [store.copied(**self._ops.rows_team) for store in self.stores]
        return other

    def make_room(self) -> bool:
        sealed = self._seal_full()
        if sealed:
            self._stored = None
        return sealed

    def attend(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: slice = ALL) -> torch.Tensor:
        q = q.to(self._exact.keys.dtype).contiguous()
        self._exact.append(keys, values, rows)
        outs = torch.empty(2, *q.shape, device=q.device)  # of the exact part, and of the sampled one
        lses = torch.empty(2, *q.shape[:2], device=q.device)
        self._exact.attend(q, self._ops, outs[0], lses[0], rows)
        question, count = (part[rows] for part in self._last_asked(q))
        requests = range(len(self.stores))[rows]
        if self._longest(requests) == 0:
            return outs[0]
        self._attend_sample(q, question, count.view(-1), requests, outs[1], lses[1])
        out, lse = torch.empty_like(q), torch.empty_like(lses[0])
        self._ops.merge_states(outs, lses, out, lse)
        return out

    def _attend_sample(
        self,
        q: torch.Tensor,
        question: torch.Tensor,
        count: torch.Tensor,
        requests: range,
        out: torch.Tensor,
        lse: torch.Tensor,
    ) -> None:
        self.selector.ask(q, question)
        cached = partial(self._cached, slice(requests.start, requests.stop))
        find, chosen = self.selector.choose(question, requests, count, self._longest(requests), cached)
        find()
        self._ops.sparse_attend(
            q, [self.stores[request] for request in requests], chosen.ids, chosen.count, chosen.center, chosen.law,
            chosen.log_weight, out, lse, scale=q.shape[-1] ** -0.5,
        )  # fmt: skip

    def _cached(self, rows: slice) -> torch.Tensor:
        if self._stored is None:
            lengths = [store.length for store in self.stores]
            self._stored = torch.tensor(lengths, dtype=torch.int32, device=self._exact.in_use.device)
        return self._stored[rows] + self._exact.in_use[rows]

    def _last_asked(self, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the last step asked [B, H, ...], and how many keys it sampled [B, H] int32, of all requests."""
        if self._asked is None:
            shape, kind = self.selector.question
            heads = (len(self.stores), q.shape[1])
            question = torch.empty(*heads, *shape, dtype=kind, device=q.device)
            self._asked = question, torch.zeros(heads, dtype=torch.int32, device=q.device)
        return self._asked

    def decode(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        self.make_room()
        self.count_token()
        return self.attend(q, keys, values)

    def _sampled(self) -> torch.Tensor:
        assert self._asked is not None
        return self._asked[1]

    def rows(self) -> torch.Tensor:
        rows, requests = self._exact_rows(), range(len(self.stores))
        if self._asked is None or not (longest := self._longest(requests)):
            return rows
        cached = partial(self._cached, ALL)
        return rows + distinct_rows(self.selector, self._asked[0], requests, rows.shape[1], longest, cached)
