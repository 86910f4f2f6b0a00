"""The sample of a scan, as a selector of the reference layer: with p of each key, and so with its error."""

from __future__ import annotations

import torch

from truffle.kernels.scanning import room_for
from truffle.model.methods.choosing.chosen import Chosen
from truffle.model.methods.choosing.errors import of_independent
from truffle.model.methods.choosing.raised import raise_for
from truffle.model.methods.choosing.sealed import Sealed
from truffle.model.methods.choosing.selector import Errors, View
from truffle.model.methods.scan import ScanSelector
from truffle.model.methods.selector import Selection
from truffle.model.operations import Operations
from truffle.model.scan_parameters import ScanParameters
from truffle.model.staging import Arrival

LEAST_RAISE = 1.1  # so that rounds come to an end


class Scanned(Sealed):
    """What a SampledLayer with the same parameters draws at the same length; open keys are taken with certainty.

    With epsilon that is the first of several samples of a row, each of which holds the one before it, as random numbers
    are those of seed, layer, tokens, row and key. p of keys that were not drawn is not known, and 0: nothing here asks
    for it.
    """

    def __init__(self, parameters: ScanParameters, layer: int, head_dim: int, ops: Operations) -> None:
        super().__init__(parameters.seal_tokens)
        self._p, self._layer, self._ops = parameters, layer, ops
        self._selector = ScanSelector(parameters.fixed, layer, head_dim, ops)
        self._home: torch.device = ops.codes_team["device"]

    def _take(self, keys: torch.Tensor) -> None:
        append = self._selector.add(0, keys)
        arrival = Arrival(keys.device, asleep=True)
        arrival.mark()
        arrival.wait()
        append()

    def select(self, view: View, generator: torch.Generator) -> Chosen:
        if view.keys.shape[1] == self.open:
            return self._with_open(view, torch.empty(len(view.q), 0))
        question = self._question(view)
        p = self._first(view, question)
        return self._with_open(view, p) if self._p.has_fast_layer else self._until_enough(view, question, p)

    def _with_open(self, view: View, p: torch.Tensor) -> Chosen:
        """Stored keys by row with p [R, stored], and the open ones."""
        heads = view.q.shape[:2]
        drawn = p.to(view.q.device).unflatten(0, (len(view.q), -1)).expand(*heads, -1)
        p = torch.cat([drawn, torch.ones(*heads, self.open, device=view.q.device)], -1)
        return Chosen((p > 0).long(), p)

    def _question(self, view: View) -> torch.Tensor:
        """The queries as the scan is asked, [1, H, d]."""
        q = view.q.flatten(0, 1)[None]
        question = torch.empty_like(q)
        self._selector.ask(q, question)
        return question.to(self._home)

    def _tokens(self, view: View) -> torch.Tensor:
        cached = view.keys.shape[1] + view.fixed_keys.shape[1]
        return torch.tensor([cached], dtype=torch.int32, device=self._home)

    def _first(self, view: View, question: torch.Tensor) -> torch.Tensor:
        """p of the keys that the budget draws of those that are stored, 0 of the others, [R, stored]."""
        stored = view.keys.shape[1] - self.open
        count = torch.empty(question.shape[1], dtype=torch.int32, device=self._home)
        find, found = self._selector.choose(question, range(1), count, stored, lambda: self._tokens(view))
        find()
        return _spread_out(found, stored)

    def _until_enough(self, view: View, question: torch.Tensor, p: torch.Tensor) -> Chosen:
        """Rows of a first sample p [R, stored] are raised until each thinks itself enough."""
        expected = torch.tensor(self._p.expected(p.shape[1]), dtype=torch.float64)
        wanted, floor = expected[:, None].repeat(1, len(p))
        while True:
            chosen = self._with_open(view, p)
            lacking, more = self._lacking(view, chosen, len(p))
            if not len(lacking):
                return chosen
            by_keys = _wanted_for(more, wanted[lacking], p.cpu()[lacking])
            wanted[lacking] = by_keys.maximum(LEAST_RAISE * wanted[lacking])
            floor[lacking] *= more
            p[lacking.to(p.device)] = self._redrawn(view, question, lacking, wanted, floor, p)

    def _lacking(self, view: View, chosen: Chosen, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows that are not enough for all their heads, and how much larger their p must be, on the CPU."""
        p = self._p
        assert p.epsilon is not None
        assert p.delta is not None
        more = raise_for(view, chosen, p.epsilon, p.delta, p.check).cpu().reshape(rows, -1).amax(-1)
        lacking = (more > 1).nonzero()[:, 0]
        return lacking, more[lacking].clamp_min(LEAST_RAISE)

    def _redrawn(
        self, view: View, question: torch.Tensor, lacking: torch.Tensor, wanted: torch.Tensor, floor: torch.Tensor,
        p: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """p [b, stored] of samples of the b rows that lack, of so many keys: one request each, as a floor is one's."""
        b, (rows, stored), home = len(lacking), p.shape, self._home
        asked, least = torch.zeros(b, rows), floor[lacking].float().clamp_max(stored)
        asked[range(b), lacking] = wanted[lacking].float().clamp_max(stored)
        room = min(stored, room_for(float((asked.double().amax(1) + least.double()).max())))
        ids, log_p = (torch.empty(b * rows, room, dtype=dtype, device=home) for dtype in (torch.int32, torch.float32))
        count, step = torch.zeros(b * rows, dtype=torch.int32, device=home), self._tokens(view).repeat(b)
        scanned = torch.full((b,), stored, dtype=torch.int32, device=home)
        self._ops.scan_sample(
            question.repeat(b, 1, 1), [self._selector.codes[0]] * b, scanned, asked.to(home), least.to(home), step,
            ids, count, log_p, scale=question.shape[-1] ** -0.5, seed=self._p.seed, layer=self._layer,
        )  # fmt: skip
        own = torch.arange(b, device=home) * rows + lacking.to(home)
        return _spread_out(Selection(ids[own], count[own], log_weight=log_p[own]), stored)

    def errors(self, view: View, chosen: Chosen) -> Errors:
        """Those of independent inclusions."""
        return of_independent(view, chosen)


def _wanted_for(more: torch.Tensor, wanted: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Keys to want [b] where p of `wanted` ones are to be `more` [b] times as large, by a sample's p [b, stored].

    Keys with p = 1 are all in the sample, and stay. That of the others, sum min(1, m p) over sum p, is what min(m, 1 /
    p) is on average over those in the sample, each of which is there with p.
    """
    certain, uncertain = (p == 1).sum(-1), (p > 0) & (p < 1)
    larger = torch.where(uncertain, (1 / p).minimum(more[:, None]), 0.0).sum(-1) / uncertain.sum(-1)
    return certain + (wanted - certain).clamp_min(0) * larger


def _spread_out(found: Selection, n: int) -> torch.Tensor:
    """p of n rows by list, 0 of those that it does not name, [lists, n] float32."""
    assert found.log_weight is not None
    p = torch.zeros(len(found.ids), n, device=found.ids.device)
    for row, (ids, count, log_p) in enumerate(zip(found.ids, found.count.tolist(), found.log_weight, strict=True)):
        p[row, ids[:count].long()] = log_p[:count].exp()
    return p
