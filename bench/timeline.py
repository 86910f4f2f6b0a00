"""Where a decode step's time goes: when the device and the host worked, by layer, on one clock."""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from truffle.model.graphs import Script
from truffle.model.llama import Decoder
from truffle.model.methods.exchange import Exchange
from truffle.model.pipeline import Lane

Span = tuple[float, float]  # microseconds since the step began


class Clock:
    """Points in time of the host, and of the current stream of a device."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        if self._cuda:
            torch.cuda.synchronize()
        self._start = self.mark()
        while self._cuda and not self._start.query():
            pass  # who sleeps wakes late
        self._began = time.perf_counter()

    def mark(self) -> Any:
        """A point behind what was launched so far."""
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def device_us(self, mark: Any) -> float:
        """When a mark was reached; all work must be over."""
        return self._start.elapsed_time(mark) * 1e3 if self._cuda else (mark - self._start) * 1e6

    def host_us(self) -> float:
        """Now."""
        return (time.perf_counter() - self._began) * 1e6


class _TracedScript:
    """A script that notes when each of its parts ran."""

    def __init__(self, script: Script, clock: Clock) -> None:
        self._script, self._clock = script, clock
        self._marks: list[tuple[Any, Any]] = []

    def begin(self) -> None:
        self._script.begin()

    def advance(self) -> None:
        start = self._clock.mark()
        self._script.advance()
        self._marks.append((start, self._clock.mark()))

    def spans(self) -> list[Span]:
        return [(self._clock.device_us(start), self._clock.device_us(end)) for start, end in self._marks]


class _TracedExchange:
    """An exchange that notes when the host answered."""

    def __init__(self, exchange: Exchange, clock: Clock) -> None:
        self._exchange, self._clock = exchange, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    def answer(self) -> None:
        start = self._clock.host_us()
        self._exchange.answer()
        self.span = start, self._clock.host_us()


@dataclass(frozen=True)
class LayerSpans:
    """One sampled layer's part of a step of one lane.

    Attributes:
        before: the device, from the layer below's answer to the question on the host; the weights are read here.
        beside: the device, attending exactly.
        answer: the host.
        after: as `before`, of the next layer.
    """

    layer: int
    before: Span
    beside: Span
    answer: Span
    after: Span


def trace_step(decoder: Decoder, tokens: torch.Tensor) -> list[list[LayerSpans]]:
    """One step with every part marked: by lane, its sampled layers from the bottom up."""
    assert decoder.pipeline is not None
    pipeline = decoder.pipeline
    lanes, clock = pipeline.lanes, Clock(decoder.weights.device)
    plain = [(lane.script, lane.exchanges) for lane in lanes]
    for lane in lanes:
        lane.exchanges = {i: _TracedExchange(e, clock) for i, e in lane.exchanges.items()}  # pyright: ignore
        lane.script = _TracedScript(lane.script, clock)
    try:
        decoder.step(tokens)
        if decoder.weights.device.type == "cuda":
            torch.cuda.synchronize()
        if decoder.pipeline is pipeline:
            return [_spans(lane) for lane in lanes]
    finally:
        for lane, (script, exchanges) in zip(lanes, plain, strict=True):
            lane.script, lane.exchanges = script, exchanges
    return trace_step(decoder, tokens)  # that step had to capture anew


def _spans(lane: Lane) -> list[LayerSpans]:
    parts = lane.script.spans()  # pyright: ignore
    answers: list[Span] = [exchange.span for exchange in lane.exchanges.values()]  # pyright: ignore
    befores, besides = parts[::2], parts[1::2]
    if lane.gate:  # a part that waits has started, but not begun
        befores[1:] = [(answer[1], part[1]) for answer, part in zip(answers, befores[1:], strict=True)]
    return [
        LayerSpans(layer, befores[turn], besides[turn], answers[turn], befores[turn + 1])
        for turn, layer in enumerate(lane.exchanges)
    ]


def breakdown(steps: list[list[LayerSpans]], weights_us: float | None) -> dict[str, float | None]:
    """Medians over the sampled layers of some steps of one lane, in microseconds.

    Attributes of the result:
        layer_us: from one answer to the next, where the next layer is sampled too.
        layer_host_us: the CPU kernels. layer_weights_us: the products with the weights alone, as given.
        layer_rest_us: what remains of layer_us: launches, waits, what crosses the link, and small kernels that do not
            overlap.
        layer_gpu_before_us, layer_gpu_beside_us: the parts of the device.
        layer_arrival_us: from the end of `before` to the start of the answer.
        layer_launch_us: from the end of the answer to the start of the next part; 0 where that was launched before,
            behind a gate: to notice that it is open is the part's own time.
    """
    layers = [layer for step in steps for layer in step]
    pairs = [(a, b) for step in steps for a, b in itertools.pairwise(step) if b.layer == a.layer + 1]
    found: dict[str, float | None] = {
        "layer_us": statistics.median(b.answer[1] - a.answer[1] for a, b in pairs) if pairs else None,
        "layer_host_us": statistics.median(_length(layer.answer) for layer in layers),
        "layer_weights_us": weights_us,
        "layer_gpu_before_us": statistics.median(_length(layer.before) for layer in layers),
        "layer_gpu_beside_us": statistics.median(_length(layer.beside) for layer in layers),
        "layer_arrival_us": statistics.median(layer.answer[0] - layer.before[1] for layer in layers),
        "layer_launch_us": statistics.median(layer.after[0] - layer.answer[1] for layer in layers),
    }
    whole, host = found["layer_us"], found["layer_host_us"]
    known = whole is not None and host is not None and weights_us is not None
    found["layer_rest_us"] = whole - host - weights_us if known else None  # pyright: ignore
    return found


def typical(step: list[LayerSpans]) -> LayerSpans:
    """The layer of the step whose answer took the median time."""
    return sorted(step, key=lambda layer: _length(layer.answer))[len(step) // 2]


def timeline_records(step: list[LayerSpans], lane: int) -> list[dict[str, Any]]:
    """One flat record a span of the typical layer, from the start of its first part on."""
    layer = typical(step)
    origin = layer.before[0]
    spans = {
        "device: merge, finish, project, ask": layer.before,
        "host: retrieve and attend": layer.answer,
        "device: attend exactly": layer.beside,
        "device: the next layer's": layer.after,
    }
    return [
        {"op": "decode_timeline", "lane": lane, "layer": layer.layer, "span": name,
         "start_us": start - origin, "end_us": end - origin}
        for name, (start, end) in spans.items()
    ]  # fmt: skip


def _length(span: Span) -> float:
    return span[1] - span[0]
