"""Poisson sampling by a scan of quantised keys of each key: codes in place of tables, with no build step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from truffle.kernels.checks import expect
from truffle.kernels.codes import BLOCK_TOKENS, Codes, with_spare, words_of
from truffle.kernels.rotation import rotation
from truffle.kernels.scanning import room_for
from truffle.model.methods.expected import Expected
from truffle.model.methods.selector import Cached, Selection
from truffle.model.operations import Operations
from truffle.model.scan_parameters import ScanParameters
from truffle.model.torch_threads import torch_threads


class ScanSelector:
    """Codes of one layer's stored keys, a request's each, and the mean key that they are centred by.

    New keys are quantised where they are, and go behind the codes there are. A request draws in any batch what it draws
    alone.

    Attributes:
        codes: by request.
        moves: how often codes have found no room where they were.
    """

    def __init__(self, parameters: ScanParameters, layer: int, head_dim: int, ops: Operations) -> None:
        expect(parameters.has_fast_layer, "epsilon", "none, as exact scores are not known here", parameters.epsilon)
        self._p, self._layer, self._ops, self._head_dim = parameters, layer, ops, head_dim
        self._rotation = torch.from_numpy(rotation(head_dim, parameters.seed, layer).copy())
        self._centers: dict[int, torch.Tensor] = {}  # where the keys are
        self.codes: dict[int, Codes] = {}
        self._expected: dict[range, Expected] = {}  # by requests that are scanned together
        self.moves = 0

    def add(self, request: int, keys: torch.Tensor) -> Callable[[], None]:
        heads, count, d = keys.shape
        if request not in self._centers:
            mean = keys.mean(dim=1, dtype=torch.float32)
            self._centers[request] = mean if self._p.centred else torch.zeros_like(mean)
            room = with_spare(count) if self._ops.scans_beside else 0
            self.codes[request] = Codes.allocate(heads, room, d, self._p.bits, **self._ops.codes_team)
            self.moves += 1
        append = partial(self._append, request, self._quantised(keys, self._centers[request]))
        if not self._ops.scans_beside:
            return append
        append()  # the device's work alone
        return lambda: None

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
        longer = held.longer(made.length, **self._ops.codes_team)
        for source, target in ((made.words, longer.words), (made.scales, longer.scales)):
            self._put(source, target, held.length, made.length)
        self.codes[request] = longer
        self.moves += longer.words is not held.words
        for requests, expected in self._expected.items():
            if request in requests:
                expected.renew(self._p, self._codes_of(requests))

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
        """The query, rotated as the keys are."""
        self.turned(q, question)

    def turned(self, q: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """q rotated, to memory of its device: a request at a time, so that none is rounded by what is beside it.

        On the CPU each has one thread at most: a second, which has to be woken, would not be there before the product
        is made, and on a busy machine torch waits milliseconds for it.
        """
        turn = self._turn(q.device)
        with torch_threads(min(len(q), torch.get_num_threads())):
            return torch.bmm(q.float(), turn.expand(len(q), *turn.shape), out=out)

    def choose(
        self, question: torch.Tensor, requests: range, count: torch.Tensor, capacity: int, cached: Cached
    ) -> tuple[Callable[[], None], Selection]:
        b, home = len(requests), question.device
        lists, room = self.room(requests, question.shape[1])
        found = Selection(
            ids=torch.empty(lists, min(capacity, room), dtype=torch.int32, device=home),
            count=torch.empty(lists, dtype=torch.int32, device=home),
            log_weight=torch.empty(lists, min(capacity, room), device=home),
        )
        step = torch.zeros(b, dtype=torch.int32, device=home)
        scan = self.scan(question, requests, step, found)
        of_heads, of_lists = count.view(b, lists // b, -1), found.count.view(b, -1, 1)

        def find() -> None:
            step.copy_(cached())
            scan()
            of_heads.copy_(of_lists)

        return find, found

    def holds(self, requests: range) -> bool:
        """Whether there are codes of any of these requests."""
        return any(request in self.codes for request in requests)

    def room(self, requests: range, heads: int) -> tuple[int, int]:
        """Lists that requests of so many query heads draw, some of them with codes, and the ids that a list may have as
        long as codes stay where they are."""
        codes = self._codes_of(requests)
        expected = max(Expected.most(self._p, held.capacity) for held in codes)
        room = min(max(held.capacity for held in codes), room_for(expected))
        return len(requests) * self._rows(codes, heads), room

    def scan(self, question: torch.Tensor, requests: range, step: torch.Tensor, found: Selection) -> Callable[[], None]:
        """A call that draws by what the question and `step` [b] hold then: valid, and the same work on the same memory,
        until codes move."""
        codes = self._codes_of(requests)
        e = self._expected_of(requests, codes, self._rows(codes, question.shape[1]), question.device)
        spacious = [replace(held, length=held.capacity) for held in codes]
        return self._ops.repeated(
            "scan_sample", question, spacious, e.lengths, e.wanted, e.floor, step,
            found.ids, found.count, found.log_weight,
            scale=self._head_dim**-0.5, seed=self._p.seed, layer=self._layer,
        )  # fmt: skip

    def _rows(self, codes: list[Codes], heads: int) -> int:
        return heads if self._p.per == "head" else len(codes[0].words)

    def _codes_of(self, requests: range) -> list[Codes]:
        """Those of each request, of no length where nothing is stored yet."""
        empty = replace(next(self.codes[request] for request in requests if request in self.codes), length=0)
        return [self.codes.get(request, empty) for request in requests]

    def _expected_of(self, requests: range, codes: list[Codes], rows: int, home: torch.device) -> Expected:
        """Made once, as a step that is being captured can bring no numbers from the host."""
        if requests not in self._expected:
            self._expected[requests] = expected = Expected.allocate(len(requests), rows, home)
            expected.renew(self._p, codes)
        return self._expected[requests]

    def twin(self) -> ScanSelector:
        other = copy.copy(self)
        other._centers, other.codes, other._expected = dict(self._centers), dict(self.codes), {}
        if self._ops.scans_beside:  # they grow in place
            other.codes = {request: _copied(held) for request, held in self.codes.items()}
        return other

    def keep(self, requests: list[int]) -> None:
        kept = [request for request in requests if request in self._centers]
        self._centers = {requests.index(request): self._centers[request] for request in kept}
        self.codes = {requests.index(request): self.codes[request] for request in kept}
        self._expected.clear()

    @property
    def memory_bytes(self) -> int:
        return sum(codes.memory_bytes for codes in self.codes.values())


def _copied(codes: Codes) -> Codes:
    return replace(codes, words=codes.words.clone(), scales=codes.scales.clone())
