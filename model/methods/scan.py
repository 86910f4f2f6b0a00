"""Poisson sampling by a scan of quantised keys (METHODS.md 9): codes in place of tables, with no build step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from truffle.kernels.checks import expect
from truffle.kernels.codes import BLOCK_TOKENS, Codes, words_of
from truffle.kernels.rotation import rotation
from truffle.kernels.scanning import room_for
from truffle.model.methods.selector import Cached, Selection
from truffle.model.operations import Operations
from truffle.model.scan_parameters import ScanParameters


class ScanSelector:
    """Codes of one layer's stored keys, a request's each, and the mean key that they are centred by.

    New keys are quantised where they are, and go behind the codes there are. A request draws in any batch what it draws
    alone.
    """

    def __init__(self, parameters: ScanParameters, layer: int, head_dim: int, ops: Operations) -> None:
        expect(parameters.has_fast_layer, "epsilon", "none, as exact scores are not known here", parameters.epsilon)
        self._p, self._layer, self._ops, self._head_dim = parameters, layer, ops, head_dim
        self._rotation = torch.from_numpy(rotation(head_dim, parameters.seed, layer).copy())
        self._centers: dict[int, torch.Tensor] = {}  # where the keys are
        self.codes: dict[int, Codes] = {}
        self._expected: dict[range, tuple[torch.Tensor, torch.Tensor, float]] = {}

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
        self._expected.clear()

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
        codes = self._codes_of(requests)
        rows = heads if self._p.per == "head" else len(codes[0].words)
        wanted, floor, most = self._expected_of(requests, codes, rows, home)
        room = min(capacity, room_for(most))
        found = Selection(
            ids=torch.empty(b * rows, room, dtype=torch.int32, device=home),
            count=torch.empty(b * rows, dtype=torch.int32, device=home),
            log_weight=torch.empty(b * rows, room, device=home),
        )
        step = torch.zeros(b, dtype=torch.int32, device=home)
        scan = self._ops.repeated(
            "scan_sample", question, codes, wanted, floor, step, found.ids, found.count, found.log_weight,
            scale=self._head_dim**-0.5, seed=self._p.seed, layer=self._layer,
        )  # fmt: skip

        def find() -> None:
            step.copy_(cached())
            scan()
            count.view(b, rows, -1).copy_(found.count.view(b, rows, 1))

        return find, found

    def _codes_of(self, requests: range) -> list[Codes]:
        """Those of each request, of no length where nothing is stored yet."""
        empty = replace(next(self.codes[request] for request in requests if request in self.codes), length=0)
        return [self.codes.get(request, empty) for request in requests]

    def _expected_of(
        self, requests: range, codes: list[Codes], rows: int, home: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor, float]:
        """`wanted` [b, rows] and `floor` [b] of scan_sample, and the most keys that a request expects; made once for
        the codes there are, as a step that is being captured can bring no numbers from the host."""
        if requests not in self._expected:
            keys = torch.tensor([self._p.expected(held.length) for held in codes], dtype=torch.float32)
            wanted, floor = keys[:, :1].repeat(1, rows), keys[:, 1].contiguous()
            self._expected[requests] = wanted.to(home), floor.to(home), float(keys.double().sum(1).max())
        return self._expected[requests]

    def twin(self) -> ScanSelector:
        other = copy.copy(self)
        other._centers, other.codes, other._expected = dict(self._centers), dict(self.codes), {}
        return other

    def keep(self, requests: list[int]) -> None:
        kept = [request for request in requests if request in self._centers]
        self._centers = {requests.index(request): self._centers[request] for request in kept}
        self.codes = {requests.index(request): self.codes[request] for request in kept}
        self._expected.clear()

    @property
    def memory_bytes(self) -> int:
        return sum(codes.memory_bytes for codes in self.codes.values())
