"""A sampled layer that retrieves and attends in one operation."""

from __future__ import annotations

from collections.abc import Callable

from truffle.model.methods.exchange import Exchange
from truffle.model.methods.lsh import LshSelector
from truffle.model.methods.sampled import SampledLayer


class FusedLayer(SampledLayer):
    """Attends to keys as the tables give them, without ids between; these are found again where they are asked for."""

    selector: LshSelector

    def _attending(self, exchange: Exchange) -> Callable[[], None]:
        e, probed = exchange, self.selector.probed(exchange.question, exchange.requests)
        attend = self._ops.repeated(
            "retrieve_attend", e.q, probed.tables, probed.query_codes, self._stores_of(e), probed.center, probed.law,
            e.out, e.lse, e.count, scale=e.q.shape[-1] ** -0.5, min_hits=self.selector.min_hits,
        )  # fmt: skip

        def call() -> None:
            probed.find()
            attend()

        return call
