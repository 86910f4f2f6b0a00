"""What a sampled layer on the device and the stores on the host tell one another in a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch

from truffle.kernels.linked import shared
from truffle.model.cache import ExactCache
from truffle.model.operations import Operations
from truffle.model.staging import Arrival


class Answering(Protocol):
    """The host's part of a layer's attention."""

    @property
    def question(self) -> tuple[tuple[int, ...], torch.dtype]:
        """What the host is told of a query head beside the query: shape and dtype."""
        ...

    def ask(self, q: torch.Tensor, question: torch.Tensor) -> None:
        """Fill question [b, H, ...] from q [b, H, d] on the device."""
        ...

    def answering(self, exchange: Exchange) -> Callable[[], None]:
        """A call, valid until the stores change, that reads an exchange's `q` and `question` as they are then, and
        fills its `out`, `lse` and `count`."""
        ...


class Exchange:
    """One layer's attention for some requests of the batch, in four acts of a step.

    The device does `ask`, then `attend_exactly` while the host waits for what was asked and does `answer`; then the
    device does `merge`. Acts of the device are launched, and may be captured: they use the same memory every time.
    They follow one another in one stream, so the host's memory is free for the host between the arrival of a
    question and the launch of `merge`, and needs no guard.

    Attributes:
        requests: whose attention it is.
        query, told: q [b, H, d] in the model's dtype, on the device, and as the device tells it the host; `told` is
            None where that is one.
        q, question: as they have arrived on the host, [b, H, d] and [b, H, ...].
        out, lse: what the host answers, [b, H, d] and [b, H] float32.
        count: keys that were sampled, [b*H] int32.
        bytes_to_host, bytes_to_device: what crosses the link in a step.
    """

    def __init__(self, host: Answering, exact: ExactCache, ops: Operations, requests: range, heads: int) -> None:
        self._host, self._exact, self._ops, self.requests = host, exact, ops, requests
        self._rows = slice(requests.start, requests.stop)
        b, d, device = len(requests), exact.keys.shape[3], exact.keys.device
        shape, kind = host.question
        told, self.q = shared((b, heads, d), exact.keys.dtype, device)
        self._question, self.question = shared((b, heads, *shape), kind, device)
        self.query, self.told = (told, None) if device.type == "cpu" else (torch.empty_like(told), told)
        # Of the exact part, and of the sampled one.
        self._outs, outs = shared((2, b, heads, d), torch.float32, device)
        self._lses, lses = shared((2, b, heads), torch.float32, device)
        self.out, self.lse = outs[1], lses[1]
        self.count = torch.zeros(b * heads, dtype=torch.int32)
        self._call: Callable[[], None] | None = None

    def ask(self, q: torch.Tensor) -> None:
        """Tell the host the question. q [b, H, d] may be `query`, and told already."""
        if q is not self.query:
            self.query.copy_(q)
            if self.told is not None:
                self.told.copy_(q)
        self._host.ask(self.query, self._question)

    def attend_exactly(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Add a token a request, keys and values [b, Hkv, d], and attend to the slots of the exact cache."""
        self._exact.append(keys, values, self._rows)
        self._exact.attend(self.query, self._ops, self._outs[0], self._lses[0], self._rows)

    def prepare(self) -> None:
        """Make ready to answer, which may ask the device when the stores have changed."""
        if self._call is None:
            self._call = self._host.answering(self)

    def answer(self) -> None:
        """Attend to what is sampled, on the host alone; `prepare` comes before."""
        assert self._call is not None
        self._call()

    def forget(self) -> None:
        """The stores have changed."""
        self._call = None

    def merge(self) -> torch.Tensor:
        """Attention over both parts, [b, H, d] in the model's dtype."""
        out, lse = torch.empty_like(self.query), torch.empty_like(self._lses[0])
        self._ops.merge_states(self._outs, self._lses, out, lse)
        return out

    def whole(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """All acts, one after the other."""
        arrival = Arrival(q.device)
        self.ask(q)
        arrival.mark()
        self.attend_exactly(keys, values)
        self.prepare()
        arrival.wait()
        self.answer()
        return self.merge()

    @property
    def bytes_to_host(self) -> int:
        return self.q.nbytes + self.question.nbytes

    @property
    def bytes_to_device(self) -> int:
        return self.out.nbytes + self.lse.nbytes


@runtime_checkable
class ExchangingLayer(Protocol):
    """A layer in whose attention the host has a part."""

    def exchanges(self, parts: list[range], heads: int) -> list[Exchange]:
        """Exchanges for parts of the batch that cover it, queries of `heads` heads; these replace others."""
        ...
