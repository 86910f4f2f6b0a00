"""Which keys fall into a query's buckets, table by table, with every key's law: LSH sampling seen as a selector."""

from __future__ import annotations

import math

import torch

from truffle.kernels.collision import TABLE_CELLS, InclusionLaw
from truffle.model.methods.choosing.chosen import Chosen
from truffle.model.methods.choosing.sealed import Sealed
from truffle.model.methods.choosing.selector import Errors, View
from truffle.model.methods.choosing.table_errors import jackknife
from truffle.model.methods.families import family_of
from truffle.model.methods.probes import probes_of
from truffle.model.operations import Operations
from truffle.model.parameters import LshParameters


class Collisions(Sealed):
    """The sample of an LshSelector with the same parameters, found by comparing codes, and p of all keys.

    Keys are hashed when a SampledLayer would seal them, centred by the mean of the first that are.
    """

    def __init__(self, parameters: LshParameters, layer: int, head_dim: int, ops: Operations) -> None:
        super().__init__(parameters.seal_tokens)
        self.parameters, self._ops = parameters, ops
        self._family = family_of(parameters, ops)
        self._planes = self._family.planes(head_dim, layer)
        self._probes = probes_of(parameters, ops)
        self._codes: list[torch.Tensor] = []  # [Hkv, L, m] each

    def _take(self, keys: torch.Tensor) -> None:
        if not self._codes:
            self.center = keys.mean(1) if self.parameters.centred else torch.zeros_like(keys[:, 0])
            self.radius = (keys - self.center[:, None]).norm(dim=-1).amax(1)
        self._planes = self._planes.to(keys.device)
        shape = (keys.shape[0], self.parameters.L, keys.shape[1])
        codes = torch.empty(shape, dtype=torch.uint16, device=keys.device)
        self._family.hash_keys(keys, self._planes, self.center, self.radius, codes)
        self._codes.append(codes.view(torch.int16))

    def select(self, view: View, generator: torch.Generator) -> Chosen:
        heads = view.scores.shape[:-1]
        certain = torch.ones(*heads, self.open, dtype=torch.int64, device=view.q.device)
        if not self._codes:
            return Chosen(certain, certain.float())
        question = self.question(view)
        hits, law = self.hits(question)
        taken = (hits.sum(2) >= self.parameters.min_hits).view(*heads, -1)
        count = torch.cat([taken.long(), certain], -1)
        return Chosen(count, torch.cat([self.inclusion(view, law), certain.float()], -1))

    def question(self, view: View) -> torch.Tensor:
        """What the tables are asked, [1, H, L, ...] (Probes.ask)."""
        q = view.q.flatten(0, 1)[None]
        question = torch.empty(*q.shape[:2], *self._probes.shape, dtype=self._probes.dtype, device=q.device)
        self._probes.ask(q, self._planes, question)
        return question

    def hits(self, question: torch.Tensor, tables: list[int] | None = None) -> tuple[torch.Tensor, InclusionLaw]:
        """Whether each table gives each hashed key, [Hkv, G, L, m] bool, and the law of a sample from these tables."""
        codes, probes = torch.cat(self._codes, -1)[:, None], self._probes  # [Hkv, 1, L, m]
        if tables is not None:
            codes, question = codes[:, :, tables], _some(question, tables)
            probes = probes_of(self.parameters.model_copy(update={"L": len(tables)}), self._ops)
        home = "cpu" if self.parameters.probing.kind == "directed" else question.device
        find, probed, law = probes.answer(question.to(home))
        find()
        buckets = probed[0].to(codes.device).view(torch.int16).unflatten(0, (codes.shape[0], -1))  # [Hkv, G, L, P]
        hit = codes == buckets[..., :1]
        for probe in range(1, buckets.shape[-1]):
            hit |= codes == buckets[..., probe, None]
        return hit, law

    def table_hits(self, view: View) -> torch.Tensor:
        """Tables that give each key, [Hkv, G, n] int64; 0 of open ones."""
        opened = torch.zeros(*view.q.shape[:2], self.open, dtype=torch.int64, device=view.q.device)
        return torch.cat([self.hits(self.question(view))[0].sum(2), opened], -1) if self._codes else opened

    def inclusion(self, view: View, law: InclusionLaw) -> torch.Tensor:
        """p of every hashed key by its angle to the query as hashed, as sparse_attend has it, [Hkv, G, m] float32."""
        keys = view.keys[:, : view.keys.shape[1] - self.open] - self.center[:, None]
        hashed = self._family.hashed_norms(keys.norm(dim=-1), self.radius)
        norms = view.q.norm(dim=-1, keepdim=True) * hashed[:, None]
        products = view.q @ keys.transpose(1, 2)
        cosine = torch.where(norms > 0, products / norms, 0.0).clamp(-1, 1)
        cells = (1 - cosine.acos() / math.pi) * TABLE_CELLS
        table = torch.from_numpy(law.tables.copy()).to(cells.device).expand(view.q.shape[0] * view.q.shape[1], -1)
        return _interpolated(table.unflatten(0, view.q.shape[:2]), cells).exp()

    def errors(self, view: View, chosen: Chosen) -> Errors | None:
        """By the jackknife over groups of tables; None where there are too few."""
        return jackknife(self, view) if self._codes else None


def _some(question: torch.Tensor, tables: list[int]) -> torch.Tensor:
    """What some of the tables are asked; torch indexes no uint16."""
    signed = question.view(torch.int16) if question.dtype == torch.uint16 else question
    return signed[:, :, tables].contiguous().view(question.dtype)


def _interpolated(table: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """table [..., cells + 1] at fractional places [..., m], linearly."""
    below = at.long().clamp(0, table.shape[-1] - 2)
    low, high = table.gather(-1, below), table.gather(-1, below + 1)
    return torch.lerp(low, high, at - below)
