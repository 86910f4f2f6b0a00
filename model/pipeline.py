"""A decode step of a batch: the device attends and multiplies while the host attends to what it samples.

    device   ... project, ask ──┬► attend_exactly, wait           ┌► merge, finish, project, ask ...
    host                        └► answer ────────────────────────┘

Kernels write questions to memory that both sides share, and read answers there. A step is one program a lane, the
model from top to bottom, in parts that end where the host comes in: what follows a layer's `ask` overlaps with the
host's `answer`. On a GPU the parts are captured once and replayed. With two lanes the device works for one half of the
batch while the host works for the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from truffle.model import gate
from truffle.model.gate import Gate
from truffle.model.graphs import CapturedScript, EagerScript, Script, rehearse
from truffle.model.methods.exchange import Exchange, ExchangingLayer
from truffle.model.staging import Arrival

if TYPE_CHECKING:
    from truffle.model.llama import Decoder


class Lane:
    """Some requests of the batch on their way through the model.

    Attributes:
        requests: those of the batch.
        exchanges: by layer, where the host has a part.
        script: what the device does.
        gate: where the parts wait that need an answer, if they are launched before there is one.
        logits: of the last step, [b, vocabulary] float32.
    """

    def __init__(self, decoder: Decoder, requests: range, exchanges: dict[int, Exchange]) -> None:
        self._decoder, self.requests, self.exchanges = decoder, requests, exchanges
        self._rows = slice(requests.start, requests.stop)
        device = decoder.weights.device
        self._tokens = torch.zeros(len(requests), dtype=torch.int64, device=device)
        self._positions = torch.tensor([decoder.lengths[request] for request in requests], device=device)
        self.logits = torch.empty(len(requests), decoder.shape.vocabulary, device=device)
        self._arrival = Arrival(device)
        self.script: Script = EagerScript(self.program)
        self.gate: Gate | None = None

    def program(self) -> Iterator[None]:
        """All layers for one token a request; pauses before and after what overlaps with the host's work."""
        decoder, weights = self._decoder, self._decoder.weights
        states = F.embedding(self._tokens, weights.embedding)  # [b, hidden]
        turn = decoder.turn(self._positions)
        for index, (layer, cache) in enumerate(zip(weights.layers, decoder.caches, strict=True)):
            exchange = self.exchanges.get(index)
            into = (exchange.query, exchange.told) if exchange else ()
            q, keys, values = decoder.project(layer, states, turn, *into)
            if exchange:
                exchange.ask(q)
                yield
                exchange.attend_exactly(keys, values)
                yield
                if self.gate:
                    self.gate.hold()
                out = exchange.merge()
            else:
                out = cache.attend(q, keys, values, self._rows)
            if decoder.observer:
                decoder.observer(index, cache, q, keys, values, out)
            decoder.finish(layer, states, out)
        self.logits.copy_(decoder.logits(states))
        self._positions.add_(1)

    def capture(self, alone: bool) -> None:
        """Replay from now on. What rehearsing did to the caches is to be rewound before.

        Parts that need an answer are launched ahead, behind a gate, where the lane is alone: another one's would wait
        there too.
        """
        self.gate = Gate() if alone and self.exchanges and gate.usable(self.logits.device) else None
        self.script = CapturedScript(self.program)

    def rewind(self) -> None:
        """Be where the decoder is."""
        lengths = self._decoder.lengths
        self._positions.copy_(torch.tensor([lengths[request] for request in self.requests]))

    def run(self, tokens: torch.Tensor) -> Iterator[None]:
        """One step, from tokens of the whole batch to `logits`; pauses when the device has work enough."""
        self._tokens.copy_(tokens[self._rows], non_blocking=True)
        self.script.begin()
        self.script.advance()
        for exchange in self.exchanges.values():
            self._arrival.mark()
            self.script.advance()
            exchange.prepare()
            with self._next_part():
                yield
                self._arrival.wait()
                exchange.answer()

    @contextmanager
    def _next_part(self) -> Iterator[None]:
        """Launch the next part when the host has done what is done here, or ahead of that, behind the gate."""
        if self.gate is None:
            yield
            self.script.advance()
            return
        self.script.advance()
        try:
            yield
        finally:
            self.gate.open()


class Pipeline:
    """The lanes of a batch. Holds while the decoder's requests stay the same and their memory where it is.

    An observed batch is one lane: an observer is shown whole layers.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.observed = decoder.observer is not None
        batch, parts = len(decoder.lengths), 1 if self.observed else decoder.config.execution.micro_batches
        bounds = [batch * part // parts for part in range(parts + 1)]
        requests = [range(*pair) for pair in itertools.pairwise(bounds) if pair[0] < pair[1]]
        exchanges: list[dict[int, Exchange]] = [{} for _ in requests]
        for index, cache in enumerate(decoder.caches):
            if isinstance(cache, ExchangingLayer):
                found = cache.exchanges(requests, decoder.shape.heads)
                for lane, exchange in zip(exchanges, found, strict=True):
                    lane[index] = exchange
        self._decoder = decoder
        self.lanes = [Lane(decoder, part, own) for part, own in zip(requests, exchanges, strict=True)]
        if decoder.weights.device.type == "cuda" and not self.observed and decoder.config.capturable:
            self._capture()

    def _capture(self) -> None:
        for lane in self.lanes:
            rehearse(lane.program)
        for cache in self._decoder.caches:
            cache.rewind()
        for lane in self.lanes:
            lane.rewind()
            lane.capture(alone=len(self.lanes) == 1)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Decode tokens [B] of the requests; returns the logits [B, vocabulary]. The caches have room and have
        counted."""
        running = [lane.run(tokens) for lane in self.lanes]
        while running:
            running = [lane for lane in running if next(lane, running) is not running]
        return torch.cat([lane.logits for lane in self.lanes])
