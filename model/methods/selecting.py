"""A layer that keeps all keys and attends to those that a reference method chooses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from truffle.kernels.checks import expect
from truffle.model.background import Later, at_once
from truffle.model.cache import ALL, ExactCache
from truffle.model.methods.base import Usage
from truffle.model.methods.choosing.chosen import Chosen
from truffle.model.methods.choosing.selector import Errors, Selector, View, view_of


class SelectingLayer:
    """A DeviceLayer: sink and window are attended, and what a selector takes of the keys between them.

    For figures of accuracy: whole scores may be computed to choose a few keys, and on a GPU no step is captured. What
    is drawn depends on seed, layer, tokens cached and kind of device only, so that a request decodes in any batch as it
    does alone.
    """

    def __init__(self, sink: int, window: int, seed: int, layer: int, new_selector: Callable[[], Selector]) -> None:
        self._sink, self._window, self._seeds, self._new_selector = sink, window, (seed, layer), new_selector

    def prefill(self, keys: list[torch.Tensor], values: list[torch.Tensor], later: Later = at_once) -> None:
        self._cache = ExactCache(keys, values)
        self._selectors: list[Selector] = []
        self._start(keys)

    def admit(self, keys: list[torch.Tensor], values: list[torch.Tensor], later: Later = at_once) -> None:
        self._cache.extend(keys, values)
        self._start(keys)

    def _start(self, keys: list[torch.Tensor]) -> None:
        """Make selectors for requests that come behind those there are."""
        for part in keys:
            self._selectors.append(self._new_selector())
            end = part.shape[1] - self._window
            if end > self._sink:
                self._selectors[-1].add(part[:, self._sink : end])
        self._last: list[tuple[View, Chosen] | None] = [None] * len(self._selectors)

    def make_room(self) -> bool:
        return self._cache.grow()

    def count_token(self) -> None:
        self._cache.count_token()

    def rewind(self) -> None:
        self._cache.rewind()

    def attend(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: slice = ALL) -> torch.Tensor:
        self._cache.append(keys, values, rows)
        requests = range(*rows.indices(len(self._selectors)))
        return torch.stack([self._attend_one(request, part) for request, part in zip(requests, q, strict=True)])

    def _attend_one(self, request: int, q: torch.Tensor) -> torch.Tensor:
        """Attention of q [H, d], float32."""
        view = self._view(request, q)
        end = self._sink + view.keys.shape[1]
        if view.keys.shape[1]:  # one key has left the window
            self._selectors[request].add(self._cache.keys[request, :, end - 1 : end])
        chosen = self._chosen(request, view)
        self._last[request] = view, chosen
        return view.attend(chosen).flatten(0, 1)

    def _view(self, request: int, q: torch.Tensor) -> View:
        n = self._cache.lengths[request]
        keys, values = (part[request, :, :n] for part in (self._cache.keys, self._cache.values))
        return view_of(q.to(keys.dtype), keys, values, self._sink, self._window)

    def _chosen(self, request: int, view: View) -> Chosen:
        if view.keys.shape[1] == 0:
            return Chosen(torch.zeros_like(view.scores, dtype=torch.int64), view.scores)
        sequence = np.random.SeedSequence([*self._seeds, self._cache.lengths[request]])
        generator = torch.Generator(view.q.device).manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
        return self._selectors[request].select(view, generator)

    def decode(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        self.make_room()
        self.count_token()
        return self.attend(q, keys, values)

    def keep(self, requests: list[int]) -> None:
        self._cache.keep(requests)
        self._selectors = [self._selectors[request] for request in requests]
        self._last = [None] * len(requests)

    def chosen(self, request: int) -> Chosen:
        """What the last step chose for a request outside sink and window, [Hkv, G, n]."""
        return self._seen(request)[1]

    def errors(self, request: int) -> Errors | None:
        """How far the last step of a request may be off, by head; None where the method cannot tell."""
        view, chosen = self._seen(request)
        return self._selectors[request].errors(view, chosen) if view.keys.shape[1] else None

    def _seen(self, request: int) -> tuple[View, Chosen]:
        last = self._last[request]
        expect(last is not None, "request", "one that has decoded since requests came or went", request)
        assert last is not None
        return last

    def usage(self) -> Usage:
        """As the last step left it; of a request that has not decoded yet, nothing was attended here."""
        heads = max((last[1].keys.numel() for last in self._last if last), default=0)
        none = torch.zeros(heads, dtype=torch.int64, device=self._cache.keys.device)
        attended = torch.stack([last[1].keys.flatten() if last else none for last in self._last])
        return Usage(attended, self._outside(), torch.tensor(self._cache.lengths))

    def _outside(self) -> torch.Tensor:
        """Keys cached outside sink and window, [B] int64."""
        return (torch.tensor(self._cache.lengths) - self._sink - self._window).clamp_min(0)

    def rows(self) -> torch.Tensor:
        fixed, device = torch.tensor(self._cache.lengths) - self._outside(), self._cache.keys.device
        none = torch.zeros(self._cache.keys.shape[1], dtype=torch.int64, device=device)
        distinct = [(last[1].count > 0).any(1).sum(-1) if last else none for last in self._last]
        return torch.stack(distinct) + fixed[:, None].to(device)

    @property
    def memory_bytes(self) -> int:
        """Size of the keys and values; what selectors keep is not counted."""
        return self._cache.memory_bytes
