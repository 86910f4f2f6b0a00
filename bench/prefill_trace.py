"""Where a prefill's time goes, layer by layer: the device's parts, the host's, and who waited."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from truffle.bench.timeline import Clock
from truffle.model.background import Later, Work
from truffle.model.llama import Decoder


@dataclass
class LayerTrace:
    """One layer's times as they are noted; marks are read once the device is done.

    Attributes:
        forward, hashes: start and end on the device.
        ready: when the device has made what the host takes.
        host_start_us, host_end_us: of the host's work, which begins by sleeping until then.
        waiting_us: what the thread that launches waited for earlier layers' work.
    """

    forward: tuple[Any, Any]
    hashes: list[tuple[Any, Any]] = field(default_factory=list)
    ready: Any = None
    host_start_us: float = 0.0
    host_end_us: float = 0.0
    carried_us: float = 0.0
    link_us: float = 0.0
    tables_us: float = 0.0
    bytes_to_host: int = 0
    waiting_us: float = 0.0


def trace_prefill(decoder: Decoder, prompt: torch.Tensor) -> tuple[list[dict[str, Any]], float]:
    """Read one prompt with every part marked: a record a layer, and how long the host worked on after the device, us.

    The decoder is not used otherwise afterwards: its parts stay marked.
    """
    trace = _Trace(decoder)
    decoder.prefill([prompt])
    if prompt.is_cuda:
        torch.cuda.synchronize()
    ends = [layer.forward[0] for layer in trace.layers[1:]] + [trace.logits]
    records = [trace.record(*numbered, end) for numbered, end in zip(enumerate(trace.layers), ends, strict=True)]
    last = max(layer.host_end_us for layer in trace.layers)
    return records, max(0.0, last - trace.clock.device_us(trace.logits))


class _Trace:
    """Notes times around the parts of one decoder."""

    def __init__(self, decoder: Decoder) -> None:
        self.clock = Clock(decoder.weights.device)
        self.layers: list[LayerTrace] = []
        self.logits: Any = None
        self._at_work: LayerTrace | None = None  # whose work the host does
        ops = decoder.ops
        self._courier, self._carry = ops.courier, ops.courier.carry
        decoder._prefill_layer = self._forward(decoder._prefill_layer)  # pyright: ignore
        decoder.logits = self._logits(decoder.logits)  # pyright: ignore
        decoder.beside = self._beside(decoder.beside)  # pyright: ignore
        ops.hash_codes, ops.build_tables = self._hash(ops.hash_codes), self._build(ops.build_tables)
        ops.courier.carry = self._carrying  # pyright: ignore

    def _forward(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any) -> Any:
            start = self.clock.mark()
            found = call(*args)
            self.layers.append(LayerTrace((start, self.clock.mark())))
            return found

        return forward

    def _logits(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def logits(*args: Any) -> Any:
            self.logits = self.clock.mark()
            return call(*args)

        return logits

    def _hash(self, call: Callable[..., None]) -> Callable[..., None]:
        def hash_codes(*args: Any, **kwargs: Any) -> None:
            start = self.clock.mark()
            call(*args, **kwargs)
            self.layers[-1].hashes.append((start, self.clock.mark()))

        return hash_codes

    def _build(self, call: Callable[..., None]) -> Callable[..., None]:
        def build_tables(*args: Any, **kwargs: Any) -> None:
            start = self.clock.host_us()
            call(*args, **kwargs)
            assert self._at_work is not None
            self._at_work.tables_us += self.clock.host_us() - start

        return build_tables

    def _carrying(self, source: torch.Tensor, target: torch.Tensor) -> None:
        layer, start, waited_s = self._at_work, self.clock.host_us(), self._courier.waited_s
        self._carry(source, target)
        assert layer is not None
        layer.carried_us += self.clock.host_us() - start
        layer.link_us += (self._courier.waited_s - waited_s) * 1e6
        layer.bytes_to_host += source.nbytes

    def _beside(self, opened: Callable[[], Any]) -> Callable[[], Any]:
        @contextmanager
        def beside() -> Iterator[Later]:
            with opened() as later:
                yield lambda work: self._give(later, work)

        return beside

    def _give(self, later: Later, work: Work) -> None:
        layer = self.layers[-1]
        layer.ready = self.clock.mark()

        def timed() -> None:
            self._at_work, layer.host_start_us = layer, self.clock.host_us()
            work()
            layer.host_end_us = self.clock.host_us()

        start = self.clock.host_us()
        later(timed)
        layer.waiting_us = self.clock.host_us() - start

    def record(self, index: int, layer: LayerTrace, end: Any) -> dict[str, Any]:
        """One flat record of a layer that ends where the device goes on to the next.

        Times of a dense layer are `forward_us` and `next_us`, until the next begins; of others also

        - on the device: `rows_us` to make the store's rows, beside `hash_us`;
        - on the host: `host_us`, of which it slept `link_us` until copies had come and spent `store_us` copying on from
          pinned memory, `tables_us` sorting codes, and `rest_us` mostly on taking memory;
        - `waiting_us` that the thread that launches could not go on, as earlier layers were unfinished on the host.
        """
        forward_us, ready = self._length(layer.forward), layer.ready or layer.forward[1]
        found: dict[str, Any] = {"op": "prefill_layer", "layer": index, "forward_us": forward_us,
                                 "next_us": self._length((ready, end))}  # fmt: skip
        if layer.ready is None:
            return found
        hash_us = sum(self._length(span) for span in layer.hashes)
        host_us = layer.host_end_us - max(layer.host_start_us, self.clock.device_us(layer.ready))
        return {
            **found,
            "hash_us": hash_us,
            "rows_us": self._length((layer.forward[1], ready)) - hash_us,
            "host_us": host_us,
            "link_us": layer.link_us,
            "store_us": layer.carried_us - layer.link_us,
            "tables_us": layer.tables_us,
            "rest_us": host_us - layer.carried_us - layer.tables_us,
            "waiting_us": layer.waiting_us,
            "bytes_to_host": layer.bytes_to_host,
        }

    def _length(self, span: tuple[Any, Any]) -> float:
        start, end = map(self.clock.device_us, span)
        return end - start
