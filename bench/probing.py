"""Output error against index bytes of probing and plain settings, on keys and queries that a model produced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from truffle.bench.dense_run import DenseRun
from truffle.kernels import registry
from truffle.kernels.collision import CollisionLaw
from truffle.kernels.directed import DirectedLaw, own_codes
from truffle.kernels.planes import hyperplanes, probe_masks
from truffle.kernels.store import SEGMENT_TOKENS, Segment, Store, empty_segment
from truffle.model.config import LshParameters

INDEX_TOKENS = 98_304  # the context that index bytes are stated for


@dataclass(frozen=True)
class LayerSample:
    """One layer's prompt and the queries that followed it, with exact attention over the prompt alone.

    Attributes:
        q: [S, H, d]; keys, values: between sink and window, [Hkv, n, d].
        exact: attention to the whole prompt, [S, H, d] float32.
        rest: attention to sink and window, [S, H, d], and its lse [S, H].
    """

    layer: int
    q: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    exact: torch.Tensor
    rest: tuple[torch.Tensor, torch.Tensor]
    exact_tokens: int


def layer_samples(run: DenseRun, p: LshParameters) -> Iterator[LayerSample]:
    """The sparse layers of an exact run; of `p` only sink, window and dense layers matter."""
    for layer, (keys, values) in enumerate(zip(run.keys, run.values, strict=True)):
        if layer in p.dense_layers:
            continue
        q = torch.cat([step[layer].q for step in run.steps]).float()
        middle = slice(p.sink, keys.shape[1] - p.window)
        outside = [torch.cat([x[:, : p.sink], x[:, middle.stop :]], dim=1) for x in (keys, values)]
        exact, _ = _attend(q, keys, values)
        yield LayerSample(layer, q, keys[:, middle], values[:, middle], exact, _attend(q, *outside), p.sink + p.window)


def _attend(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact attention of q [S, H, d] over keys and values [Hkv, n, d]: out [S, H, d] and lse [S, H]."""
    grouped = q.unflatten(1, (keys.shape[0], -1))
    scores = torch.einsum("sgrd,gnd->sgrn", grouped, keys.float()) * q.shape[-1] ** -0.5
    out = torch.einsum("sgrn,gnd->sgrd", scores.softmax(-1), values.float())
    return out.flatten(1, 2), scores.logsumexp(-1).flatten(1, 2)


class Index:
    """Tables of one layer for one K and seed, as many as the largest setting needs; smaller ones take the first."""

    def __init__(self, sample: LayerSample, K: int, L: int, seed: int, threads: int) -> None:
        self._sample, self._K, self._threads = sample, K, threads
        keys, values = sample.keys.bfloat16().contiguous(), sample.values.bfloat16().contiguous()
        kv_heads, n, d = keys.shape
        self._center = keys.float().mean(dim=1)
        self._store = Store.allocate(kv_heads, n, d).appended(keys, values, self._center)
        planes = torch.from_numpy(hyperplanes(d, K, L, seed, sample.layer).copy())
        codes = torch.empty(kv_heads, L, n, dtype=torch.uint16)
        registry.get("hash_codes")(keys, planes, self._center, codes, K=K, threads=threads)
        self._tables = empty_segment(0, kv_heads, K, L, n)
        registry.get("build_tables")(codes, self._tables.offsets, self._tables.ids, K=K, threads=threads)
        unit = sample.q / sample.q.norm(dim=-1, keepdim=True)
        self._margins = (unit @ planes).unflatten(-1, (L, K))

    def measure(self, p: LshParameters) -> dict[str, float]:
        """Output error, density and rows: means over queries and heads."""
        sample, (S, H, d) = self._sample, self._sample.q.shape
        margins = self._margins[:, :, : p.L].contiguous()
        codes, law = _probes(margins, p, self._threads)
        n = self._store.length
        ids, count = torch.empty(S * H, n, dtype=torch.int32), torch.empty(S * H, dtype=torch.int32)
        tables = _first_tables(self._tables, p.L)
        registry.get("retrieve")(
            [[tables]] * S, codes, ids, count, min_hits=p.min_hits, threads=self._threads
        )  # fmt: skip
        out, lse = torch.empty(S, H, d), torch.empty(S, H)
        centers = self._center.expand(S, -1, -1).contiguous()
        registry.get("sparse_attend")(
            sample.q, [self._store] * S, ids, count, centers, law, None, out, lse,
            scale=d**-0.5, threads=self._threads,
        )  # fmt: skip
        total = torch.logaddexp(lse, sample.rest[1])
        merged = (lse - total).exp()[..., None] * out + (sample.rest[1] - total).exp()[..., None] * sample.rest[0]
        error = (merged - sample.exact).norm(dim=-1) / sample.exact.norm(dim=-1)
        read = _distinct(ids, count, S * self._store.rows.shape[0]) + sample.exact_tokens
        return {
            "output_error": float(error.mean()),
            "density": float(count.float().mean() / n),
            "rows": float(read.mean() / (n + sample.exact_tokens)),
        }


def _probes(margins: torch.Tensor, p: LshParameters, threads: int) -> tuple[torch.Tensor, CollisionLaw | DirectedLaw]:
    S, H, L, _ = margins.shape
    if p.probing.kind != "directed":
        masks = torch.from_numpy(probe_masks(p.K, p.probing.ball).astype("int32"))
        codes = (own_codes(margins)[..., None] ^ masks).to(torch.uint16)
        return codes, CollisionLaw(p.K, p.L, p.min_hits, p.probing.ball)
    codes = torch.empty(S, H, L, p.probing.amount, dtype=torch.uint16)
    log_u = torch.empty(S * H, 4097)
    registry.get("direct_probes")(margins, codes, log_u, min_hits=p.min_hits, threads=threads)
    return codes, DirectedLaw(margins, codes, log_u, p.min_hits)


def _first_tables(segment: Segment, L: int) -> Segment:
    offsets, ids = segment.offsets[:, :L].contiguous(), segment.ids[:, :L].contiguous()
    return Segment(segment.start, offsets, ids)


def _distinct(ids: torch.Tensor, count: torch.Tensor, groups: int) -> torch.Tensor:
    """How many different ids each group of rows holds, [groups] float32."""
    read = torch.zeros(groups, ids.shape[1], dtype=torch.bool)
    group = len(ids) // groups
    for row, size in enumerate(count.tolist()):
        read[row // group, ids[row, :size].long()] = True
    return read.sum(1).float()
