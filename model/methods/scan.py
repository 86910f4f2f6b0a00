"""Poisson sampling by a scan of quantised keys (METHODS.md 9): codes in place of tables, with no build step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch

from truffle.kernels.codes import BLOCK_TOKENS, Codes, words_of
from truffle.kernels.rotation import rotation
from truffle.kernels.scanning import room_for
from truffle.model.methods.selector import Cached, Selection
from truffle.model.operations import Operations
from truffle.model.scan_parameters import ScanParameters


class ScanSelector:
    """Codes of one layer's stored keys, a request's each, and the mean key that they are centred by.

    New keys are quantised where they are, and go behind the codes there are. Requests are scanned one by one: random
    numbers and floor of a call are those of its rows, and a request is to draw in any batch what it draws alone.
    """

    def __init__(self, parameters: ScanParameters, layer: int, head_dim: int, ops: Operations) -> None:
        self._p, self._layer, self._ops, self._head_dim = parameters, layer, ops, head_dim
        self._rotation = torch.from_numpy(rotation(head_dim, parameters.seed, layer).copy())
        self._centers: dict[int, torch.Tensor] = {}  # where the keys are
        self.codes: dict[int, Codes] = {}

    def add(self, request: int, keys: torch.Tensor) -> Callable[[], None]:
        if request not in self._centers:
            mean = keys.mean(dim=1, dtype=torch.float32)
            self._centers[request] = mean if self._p.centred else torch.zeros_like(mean)
            self.codes[request] = Codes.allocate(len(keys), 0, self._head_dim, self._p.bits, **self._ops.team)
        return partial(self._append, request, self._quantised(keys, self._centers[request]))

    def _quantised(self, keys: torch.Tensor, center: torch.Tensor) -> Codes:
        """Codes of keys [Hkv, m, d] alone, on their device."""
        heads, count, d = keys.shape
        blocks, words = -(-count // BLOCK_TOKENS), words_of(d, self._p.bits)
        made = Codes(
            torch.zeros(heads, blocks, words, BLOCK_TOKENS, dtype=torch.int32, device=keys.device),
            torch.zeros(heads, blocks, BLOCK_TOKENS, dtype=torch.bfloat16, device=keys.device),
            count, d, self._p.bits,
        )  # fmt: skip
        turn = self._turn(keys.device)
        self._ops.quantize_keys(keys.contiguous(), center, turn, made.words, made.scales, start=0, bits=self._p.bits)
        return made

    def _turn(self, device: torch.device) -> torch.Tensor:
        self._rotation = self._rotation.to(device)
        return self._rotation

    def _append(self, request: int, made: Codes) -> None:
        held = self.codes[request]
        longer = held.longer(made.length, **self._ops.team)
        for source, target in ((made.words, longer.words), (made.scales, longer.scales)):
            self._put(source, target, held.length, made.length)
        self.codes[request] = longer

    def _put(self, source: torch.Tensor, target: torch.Tensor, start: int, count: int) -> None:
        """Carry home the `count` tokens of a source, to be those from `start` on of a target; tokens are last axes."""
        first, offset = divmod(start, BLOCK_TOKENS)
        if offset == 0:
            self._ops.courier.carry(source, target[:, first : first + source.shape[1]])
            return
        here = torch.empty(source.shape, dtype=source.dtype, device=target.device)
        self._ops.courier.carry(source, here)
        there = torch.arange(start, start + count, device=target.device)
        places = there // BLOCK_TOKENS, there % BLOCK_TOKENS
        made = (there - start) // BLOCK_TOKENS, (there - start) % BLOCK_TOKENS
        target.movedim(-1, 2)[:, *places] = here.movedim(-1, 2)[:, *made]

    @property
    def question(self) -> tuple[tuple[int, ...], torch.dtype]:
        return (self._head_dim,), torch.float32

    def ask(self, q: torch.Tensor, question: torch.Tensor) -> None:
        """The query, rotated as the keys are: a request at a time, so that none is rounded by what is beside it."""
        turn = self._turn(q.device)
        question.copy_(torch.bmm(q.float(), turn.expand(len(q), *turn.shape)))

    def choose(
        self, question: torch.Tensor, requests: range, count: torch.Tensor, capacity: int, cached: Cached
    ) -> tuple[Callable[[], None], Selection]:
        b, heads, home = len(requests), question.shape[1], question.device
        scanned = [self.codes.get(request) for request in requests]
        rows = heads if self._p.per == "head" else next(codes for codes in scanned if codes).words.shape[0]
        expected = [self._expected(codes.length if codes else 0) for codes in scanned]
        room = min(capacity, max(room_for(sum(keys)) for keys in expected))
        found = Selection(
            ids=torch.empty(b * rows, room, dtype=torch.int32, device=home),
            count=torch.zeros(b * rows, dtype=torch.int32, device=home),
            log_weight=torch.empty(b * rows, room, device=home),
        )
        step = torch.zeros(b, dtype=torch.int32, device=home)
        scans = [
            self._scan(place, codes, keys, question, found, step)
            for place, (codes, keys) in enumerate(zip(scanned, expected, strict=True))
            if codes
        ]

        def find() -> None:
            step.copy_(cached())
            for scan in scans:
                scan()
            count.view(b, rows, -1).copy_(found.count.view(b, rows, 1))

        return find, found

    def _expected(self, n: int) -> tuple[float, float]:
        """As the parameters have it, the proposal's in float32, as it is told."""
        wanted, floor = self._p.expected(n)
        return float(torch.tensor(wanted, dtype=torch.float32)), floor

    def _scan(
        self,
        place: int,
        codes: Codes,
        expected: tuple[float, float],
        question: torch.Tensor,
        found: Selection,
        step: torch.Tensor,
    ) -> Callable[[], None]:
        """A call that draws for the request at `place` of the question."""
        wanted, floor = expected
        rows = len(found.count) // len(question)
        one, own = slice(place, place + 1), slice(place * rows, (place + 1) * rows)
        assert found.log_weight is not None
        return self._ops.repeated(
            "scan_sample", question[one], [codes], torch.full((1, rows), wanted, device=question.device), step[one],
            found.ids[own], found.count[own], found.log_weight[own],
            scale=self._head_dim**-0.5, floor=floor, seed=self._p.seed, layer=self._layer,
        )  # fmt: skip

    def twin(self) -> ScanSelector:
        other = copy.copy(self)
        other._centers, other.codes = dict(self._centers), dict(self.codes)
        return other

    def keep(self, requests: list[int]) -> None:
        kept = [request for request in requests if request in self._centers]
        self._centers = {requests.index(request): self._centers[request] for request in kept}
        self.codes = {requests.index(request): self.codes[request] for request in kept}

    @property
    def memory_bytes(self) -> int:
        return sum(codes.memory_bytes for codes in self.codes.values())
