"""The sample of a scan, as a selector of the reference layer: with p of each key, and so with its error."""

from __future__ import annotations

import torch

from truffle.model.methods.choosing.chosen import Chosen
from truffle.model.methods.choosing.errors import of_independent
from truffle.model.methods.choosing.sealed import Sealed
from truffle.model.methods.choosing.selector import Errors, View
from truffle.model.methods.scan import ScanSelector
from truffle.model.methods.selector import Selection
from truffle.model.operations import Operations
from truffle.model.scan_parameters import ScanParameters
from truffle.model.staging import Arrival


class Scanned(Sealed):
    """What a SampledLayer with the same parameters draws at the same length; open keys are taken with certainty.

    p of keys that were not drawn is not known, and 0: nothing here asks for it.
    """

    def __init__(self, parameters: ScanParameters, layer: int, head_dim: int, ops: Operations) -> None:
        super().__init__(parameters.seal_tokens)
        self._selector, self._home = ScanSelector(parameters, layer, head_dim, ops), ops.home

    def _take(self, keys: torch.Tensor) -> None:
        append = self._selector.add(0, keys)
        arrival = Arrival(keys.device, asleep=True)
        arrival.mark()
        arrival.wait()
        append()

    def select(self, view: View, generator: torch.Generator) -> Chosen:
        heads = view.q.shape[:2]
        opened = torch.ones(*heads, self.open, device=view.q.device)
        stored = view.keys.shape[1] - self.open
        if stored:
            opened = torch.cat([self._inclusion(view, stored).to(view.q.device), opened], -1)
        return Chosen((opened > 0).long(), opened)

    def _inclusion(self, view: View, stored: int) -> torch.Tensor:
        """p of the keys that are drawn among the first `stored`, 0 of the others, [Hkv, G, stored]."""
        q = view.q.flatten(0, 1)[None]
        question = torch.empty_like(q)
        self._selector.ask(q, question)
        count = torch.empty(q.shape[1], dtype=torch.int32, device=self._home)
        tokens = torch.tensor([view.keys.shape[1] + view.fixed_keys.shape[1]], dtype=torch.int32, device=self._home)
        find, found = self._selector.choose(question.to(self._home), range(1), count, stored, lambda: tokens)
        find()
        return _spread_out(found, stored).unflatten(0, (len(view.q), -1)).expand(*view.q.shape[:2], -1)

    def errors(self, view: View, chosen: Chosen) -> Errors:
        """Those of independent inclusions."""
        return of_independent(view, chosen)


def _spread_out(found: Selection, n: int) -> torch.Tensor:
    """p of n rows by list, 0 of those that it does not name, [lists, n] float32."""
    assert found.log_weight is not None
    p = torch.zeros(len(found.ids), n, device=found.ids.device)
    for row, (ids, count, log_p) in enumerate(zip(found.ids, found.count.tolist(), found.log_weight, strict=True)):
        p[row, ids[:count].long()] = log_p[:count].exp()
    return p
