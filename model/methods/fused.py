"""A sampled layer that retrieves and attends in one operation."""

from __future__ import annotations

import torch

from truffle.model.methods.lsh import LshSelector
from truffle.model.methods.sampled import SampledLayer, Selection


class FusedLayer(SampledLayer):
    """Attends to keys as the tables give them, without ids between; these are found again where they are asked for."""

    selector: LshSelector

    def _attend_sample(self, q: torch.Tensor, out: torch.Tensor, lse: torch.Tensor) -> torch.Tensor:
        probed = self._probed = self.selector.probe(q)
        count = torch.empty(lse.numel(), dtype=torch.int32)
        self._ops.retrieve_attend(
            q.cpu(), probed.tables, probed.query_codes, self.stores, probed.center, probed.law, out, lse, count,
            scale=q.shape[-1] ** -0.5, min_hits=self.selector.min_hits,
        )  # fmt: skip
        return count

    def _selected(self) -> Selection:
        return self.selector.retrieve(self._probed, self._longest)
