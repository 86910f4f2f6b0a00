"""Probing against plain tables on a model's real keys: output error, keys read and index bytes of many settings."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from truffle.bench.dense_run import DenseRun
from truffle.bench.probing_front import index_bytes_per_token
from truffle.kernels.planes import hyperplanes
from truffle.kernels.store import Segment, Store, empty_segment
from truffle.model.config import DecodeConfig, Execution, LshParameters
from truffle.model.methods.probes import probed_now, probes_of
from truffle.model.operations import Operations

Attended = tuple[torch.Tensor, torch.Tensor]  # out [S, H, d] and lse [S, H]


@dataclass(frozen=True)
class LayerSample:
    """One layer's prompt and the queries that followed it.

    Attributes:
        layer: which; exact_tokens: sink and window.
        q: [S, H, d] float32; keys, values: between sink and window, [Hkv, n, d] bfloat16.
        exact: attention to the whole prompt, [S, H, d]; rest: to sink and window.
    """

    layer: int
    exact_tokens: int
    q: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    exact: torch.Tensor
    rest: Attended


def layer_samples(run: DenseRun, p: LshParameters = LshParameters()) -> Iterator[LayerSample]:  # noqa: B008 - frozen
    """The sparse layers of an exact run, under the sink, window and dense layers of `p`.

    All queries attend the prompt alone, so that one index serves them.
    """
    for layer, (keys, values) in enumerate(zip(run.keys, run.values, strict=True)):
        if layer in p.dense_layers:
            continue
        q = torch.cat([step[layer].q for step in run.steps]).float()
        end = keys.shape[1] - p.window
        inner_keys, inner_values = (x[:, p.sink : end].bfloat16().contiguous() for x in (keys, values))
        outside = [torch.cat([x[:, : p.sink], x[:, end:]], dim=1) for x in (keys, values)]
        exact, rest = _attend(q, keys, values)[0], _attend(q, *outside)
        yield LayerSample(layer, p.sink + p.window, q, inner_keys, inner_values, exact, rest)


def _attend(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> Attended:
    grouped = q.unflatten(1, (keys.shape[0], -1))
    scores = torch.einsum("sgrd,gnd->sgrn", grouped, keys.float()) * q.shape[-1] ** -0.5
    out = torch.einsum("sgrn,gnd->sgrd", scores.softmax(-1), values.float())
    return out.flatten(1, 2), scores.logsumexp(-1).flatten(1, 2)


class LayerIndex:
    """Tables of one layer for one K and seed; a setting with fewer uses the first of them."""

    def __init__(self, sample: LayerSample, K: int, L: int, seed: int, threads: int) -> None:
        self._sample, self._execution = sample, Execution(threads=threads)
        ops = self._operations(LshParameters(K=K, L=L))
        kv_heads, n, d = sample.keys.shape
        self._center = sample.keys.float().mean(dim=1)
        self._store = Store.allocate(kv_heads, n, d).appended(sample.keys, sample.values)
        self._planes = torch.from_numpy(hyperplanes(d, K, L, seed, sample.layer).copy())
        codes = torch.empty(kv_heads, L, n, dtype=torch.uint16)
        ops.hash_codes(sample.keys, self._planes, self._center, codes, K=K)
        self._tables = empty_segment(0, kv_heads, K, L, n)
        ops.build_tables(codes, self._tables.offsets, self._tables.ids, K=K)

    def _operations(self, p: LshParameters) -> Operations:
        return Operations(DecodeConfig(parameters=p, execution=self._execution), "cpu")

    def measure(self, p: LshParameters) -> dict[str, float]:
        """Output error, density and rows under `p`, means over queries and heads."""
        ids, count, sampled = self._sampled(p)
        s, n = self._sample, self._store.length
        total = torch.logaddexp(sampled[1], s.rest[1])
        merged = sum((lse - total).exp()[..., None] * out for out, lse in (sampled, s.rest))
        error = (merged - s.exact).norm(dim=-1) / s.exact.norm(dim=-1)
        read = _distinct(ids, count, len(s.q) * len(s.keys)) + s.exact_tokens
        rows = read.mean() / (n + s.exact_tokens)
        return {
            "output_error": float(error.mean()),
            "density": float(count.float().mean() / n),
            "rows": float(rows),
        }

    def _sampled(self, p: LshParameters) -> tuple[torch.Tensor, torch.Tensor, Attended]:
        ops, q, (S, H, d) = self._operations(p), self._sample.q, self._sample.q.shape
        codes, law = probed_now(probes_of(p, ops), q, self._planes[:, : p.L * p.K].contiguous())
        tables = Segment(0, *(part[:, : p.L].contiguous() for part in (self._tables.offsets, self._tables.ids)))
        ids = torch.empty(S * H, self._store.length, dtype=torch.int32)
        count = torch.empty(S * H, dtype=torch.int32)
        ops.retrieve([[tables]] * S, codes, ids, count, min_hits=p.min_hits)
        out, lse = torch.empty(S, H, d), torch.empty(S, H)
        centers = self._center.expand(S, -1, -1).contiguous()
        ops.sparse_attend(q, [self._store] * S, ids, count, centers, law, None, out, lse, scale=d**-0.5)
        return ids, count, (out, lse)


def _distinct(ids: torch.Tensor, count: torch.Tensor, groups: int) -> torch.Tensor:
    """How many different ids each group of rows holds, [groups] float32."""
    read = torch.zeros(groups, ids.shape[1], dtype=torch.bool)
    for row, size in enumerate(count.tolist()):
        read[row * groups // len(ids), ids[row, :size].long()] = True
    return read.sum(1).float()


def measure_settings(
    run: DenseRun, settings: list[LshParameters], seeds: int, threads: int
) -> Iterator[dict[str, Any]]:
    """One flat record a setting: means over layers and `seeds` draws of the planes. Settings of equal K share those."""
    samples = list(layer_samples(run))
    for K in sorted({p.K for p in settings}):
        alike = [p for p in settings if p.K == K]
        found: list[list[dict[str, float]]] = [[] for _ in alike]
        for sample, seed in itertools.product(samples, range(seeds)):
            index = LayerIndex(sample, K, max(p.L for p in alike), seed, threads)
            for p, figures in zip(alike, found, strict=True):
                figures.append(index.measure(p))
        for p, figures in zip(alike, found, strict=True):
            means = {name: sum(figure[name] for figure in figures) / len(figures) for name in figures[0]}
            yield {
                "K": K, "L": p.L, "min_hits": p.min_hits, "probing": p.probing.kind, "amount": p.probing.amount,
                **means, "index_bytes": index_bytes_per_token(K, p.L),
            }  # fmt: skip
