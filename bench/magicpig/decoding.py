"""MagicPIG's two extensions as the host's part of a decode step, as its models/attnserver.py and llama.py use them.

Keys are centred by the mean of a prompt's middle on both sides of the link, new ones too, so that the lse of the two
parts merge as they are; what decoding adds stays on the device. Only the lse's base and the output's dtype are
converted to ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from truffle.bench.magicpig.layers import Layers, centred, sorted_codes
from truffle.bench.rivals.split import SplitLayer
from truffle.bench.sizes import Sizes
from truffle.kernels.checks import expect
from truffle.kernels.planes import hyperplanes
from truffle.model.background import Later, at_once
from truffle.model.config import LshParameters, ModelShape
from truffle.model.methods.base import Usage
from truffle.model.methods.exchange import Exchange
from truffle.model.operations import Operations


def sizes(shape: ModelShape, p: LshParameters, batch: int, context: int) -> Sizes:
    """What the extensions are asked for, the heads of a batch counted as one request's: its codes lie so, too."""
    return Sizes(
        context, batch * shape.heads, batch * shape.kv_heads, shape.head_dim, p.K, p.L, p.min_hits, probing=p.probing
    )


class CentredExchange(Exchange):
    """An exchange whose device keeps keys minus `mean` [B, Hkv, d]."""

    mean: torch.Tensor

    def attend_exactly(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().attend_exactly(keys - self.mean, values)


class MagicPigLayer(SplitLayer):
    """An ExchangingLayer of one lane, for prompts of one length."""

    def __init__(self, p: LshParameters, layer: int, shape: ModelShape, ops: Operations) -> None:
        super().__init__(p.window, ops, p.sink)
        self._p, self._shape = p, shape
        self._planes = torch.from_numpy(hyperplanes(shape.head_dim, p.K, p.L, p.seed, layer).copy())
        self.question = (p.L,), torch.int32
        self._exchanges: list[Exchange] = []

    def prefill(self, keys: list[torch.Tensor], values: list[torch.Tensor], later: Later = at_once) -> None:
        lengths = {part.shape[1] for part in keys}
        expect(len(lengths) == 1, "prompts", "one length", sorted(lengths))
        end = lengths.pop() - self._p.window
        expect(end > self._p.sink, "prompts", "more tokens than sink and window", end + self._p.window)
        means = [part[:, self._p.sink : end].mean(dim=1, keepdim=True) for part in keys]
        self._mean = torch.stack(means).squeeze(2)
        super().prefill([centred(part, mean)[0] for part, mean in zip(keys, means, strict=True)], values)

    def _host(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        self._layers = Layers(sizes(self._shape, self._p, len(keys), self.hosted[0]))
        found = [[side.cpu() for side in sorted_codes(self._hashed(part))] for part in keys]
        codes, order = (torch.cat(sides) for sides in zip(*found, strict=True))
        joined = torch.cat([part.cpu() for part in keys])
        self._layers.fill(
            0, codes, order, joined, torch.cat([part.cpu() for part in values]), joined.norm(p=2, dim=-1).float()
        )

    def _hashed(self, keys: torch.Tensor) -> torch.Tensor:
        """Codes [R, L, n] int16 of keys [R, n, d], where they are."""
        self._planes = self._planes.to(keys.device)
        codes = torch.empty(keys.shape[0], self._p.L, keys.shape[1], dtype=torch.uint16, device=keys.device)
        self._ops.hash_codes(keys.contiguous(), self._planes, None, codes, K=self._p.K)
        return codes.view(torch.int16)

    def exchanges(self, parts: list[range], heads: int) -> list[Exchange]:
        """One exchange, for the whole batch."""
        expect(len(parts) == 1, "micro_batches", "1", len(parts))
        exchange = CentredExchange(self, self._exact, self._ops, parts[0], heads)
        exchange.mean = self._mean
        self._exchanges = [exchange]
        return self._exchanges

    def ask(self, q: torch.Tensor, question: torch.Tensor) -> None:
        """The codes of q [B, H, d], [B, H, L]."""
        codes = self._hashed(q.reshape(1, -1, q.shape[2]))[0]  # [L, B*H]
        question.flatten(0, 1).copy_(codes.T)

    def answering(self, exchange: Exchange) -> Callable[[], None]:
        """A call that retrieves and attends."""
        layers, e = self._layers, exchange
        q, codes = e.q.flatten(0, 1), e.question.flatten(0, 1)
        out, lse, lse_log2 = e.out.flatten(0, 1), e.lse.flatten(), layers.max_and_lse_log2[1]
        e.count = layers.count

        def call() -> None:
            layers.retrieve(0, codes)
            layers.attend(0, q, layers.ids, layers.count)
            out.copy_(layers.out)
            torch.mul(lse_log2, math.log(2.0), out=lse)

        return call

    def usage(self) -> Usage:
        decoded = torch.tensor(self._exact.lengths) - self._p.sink - self._p.window
        sampled = torch.cat([exchange.count.view(exchange.lse.shape) for exchange in self._exchanges])
        hosted = torch.tensor(self.hosted)
        return Usage(decoded[:, None] + sampled, decoded + hosted, torch.tensor(self._exact.lengths) + hosted)
