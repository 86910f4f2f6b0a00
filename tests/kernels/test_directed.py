"""Query-directed probing: keys are found as often as the conditional law says, and estimates stay unbiased."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from truffle.kernels import registry
from truffle.kernels.collision import TABLE_CELLS, CollisionLaw
from truffle.kernels.directed import DirectedLaw, log_at_least
from truffle.kernels.planes import hyperplanes
from truffle.kernels.probe_sets import probe_sets
from truffle.kernels.retrieve.contract import build_segments
from truffle.kernels.store import Store

KEYS = 20_000
COSINES = (-0.2, 0.1, 0.5, 0.85)


def directed(margins: torch.Tensor, P: int, min_hits: int, name: str = "auto") -> DirectedLaw:
    codes = torch.empty(*margins.shape[:3], P, dtype=torch.uint16)
    log_u = torch.empty(margins.shape[0] * margins.shape[1], TABLE_CELLS + 1)
    registry.get("direct_probes", name)(margins, codes, log_u, min_hits=min_hits)
    return DirectedLaw(margins, codes, log_u, min_hits)


def frequency(law: DirectedLaw, cosine: float, seed: int) -> float:
    """Of keys at one angle to a query of these margins, the planes drawn anew for each, those that are retrieved."""
    margins = law.margins[0, 0, None].double()
    noise = torch.randn(KEYS, *margins.shape[1:], generator=torch.Generator().manual_seed(seed)).double()
    bits = cosine * margins + (1 - cosine**2) ** 0.5 * noise > 0
    K = margins.shape[-1]
    codes = (bits * 2 ** torch.arange(K)).sum(-1).T[None].to(torch.uint16).contiguous()  # [1, L, KEYS]
    ids, count = torch.empty(1, KEYS, dtype=torch.int32), torch.empty(1, dtype=torch.int32)
    segments = build_segments(codes, K, [KEYS])
    registry.get("retrieve", "reference")([segments], law.query_codes, ids, count, min_hits=law.min_hits)
    return int(count) / KEYS


def deviation(u: float) -> float:
    return max(u * (1 - u) / KEYS, 1 / KEYS**2) ** 0.5


@pytest.mark.parametrize(
    ("K", "L", "P", "min_hits"),
    [(1, 4, 1, 3), (4, 8, 4, 1), (4, 8, 3, 3), (12, 30, 8, 2), (12, 20, 2, 1), (12, 30, 64, 3), (16, 25, 16, 1)],
)
@pytest.mark.parametrize("name", ["reference", "auto"])
def test_keys_are_found_as_often_as_the_law_says(K, L, P, min_hits, name):
    """20,000 keys an angle; each frequency within 4 standard errors, and the tables as near as their bound."""
    margins = torch.randn(1, 1, L, K, generator=torch.Generator().manual_seed(K + L))
    law = directed(margins, P, min_hits, name)
    cells = np.arange(TABLE_CELLS + 1)
    for seed, cosine in enumerate(COSINES):
        log_u = law.log_inclusion(np.array([cosine]), 0)[0]
        u = float(np.exp(log_u))
        assert abs(frequency(law, cosine, seed) - u) < 4 * deviation(u), cosine
        if log_u > -20:
            place = (1 - np.arccos(cosine) / np.pi) * TABLE_CELLS
            assert np.interp(place, cells, law.tables[0]) == pytest.approx(log_u, abs=1e-3)


@pytest.mark.parametrize(("P", "scale"), [(1, 0.5), (1, 1.5), (7, 1.0)])
def test_the_unconditional_law_does_not_hold(P, scale):
    """Given the margins, keys are found far more or less often than over all margins: by 10 standard errors."""
    K, L = 6, 3
    margins = scale * torch.randn(1, 1, L, K, generator=torch.Generator().manual_seed(5))
    law, unconditional = directed(margins, P, 1), CollisionLaw(K, L, 1, ball=1 if P > 1 else 0)
    u, wrong = (float(np.exp(one.log_inclusion(np.array([0.5]), 0)[0])) for one in (law, unconditional))
    found = frequency(law, 0.5, 1)
    assert abs(found - u) < 4 * deviation(u)
    assert abs(found - wrong) > 10 * deviation(wrong)


def test_over_all_margins_the_law_of_the_own_bucket_is_the_unconditional_one():
    """400 draws of the margins: the mean of u within 4 standard errors."""
    K, L, cosine = 3, 5, np.array([0.3])
    margins = torch.randn(1, 400, L, K, generator=torch.Generator().manual_seed(2))
    law = directed(margins, 1, 2)
    u = np.exp([law.log_inclusion(cosine, row)[0] for row in range(400)])
    want = np.exp(CollisionLaw(K, L, 2).log_inclusion(cosine)[0])
    assert abs(u.mean() - want) < 4 * u.std() / 20


@pytest.mark.parametrize(("K", "L", "P", "min_hits"), [(4, 15, 4, 2), (5, 10, 3, 1)])
def test_numerator_and_denominator_are_unbiased(K, L, P, min_hits):
    """600 draws of the planes: the mean of exp(lse) and of exp(lse) * out within 4 standard errors."""
    n, d, draws = 150, 16, 600
    keys, values = torch.randn(2, 1, n, d, generator=torch.Generator().manual_seed(0))
    q = torch.randn(1, 1, d, generator=torch.Generator().manual_seed(1))
    center = keys.mean(1)
    store = Store.allocate(1, n, d, torch.float32).appended(keys, values)
    hash_codes, retrieve, attend = (registry.get(op) for op in ("hash_codes", "retrieve", "sparse_attend"))
    sums = []
    for seed in range(draws):
        planes = torch.from_numpy(hyperplanes(d, K, L, seed, 0).copy())
        codes = torch.empty(1, L, n, dtype=torch.uint16)
        hash_codes(keys, planes, center, codes, K=K)
        law = directed((q / q.norm() @ planes).view(1, 1, L, K), P, min_hits)
        ids, count = torch.empty(1, n, dtype=torch.int32), torch.empty(1, dtype=torch.int32)
        retrieve([build_segments(codes, K, [n])], law.query_codes, ids, count, min_hits=min_hits)
        out, lse = torch.empty(1, 1, d), torch.empty(1, 1)
        attend(q, [store], ids, count, center[None], law, None, out, lse, scale=d**-0.5)
        sums.append(torch.cat([lse.exp(), lse.exp() * out[0]], dim=1)[0])
    sums = torch.stack(sums)
    weights = (keys[0] @ q[0, 0] * d**-0.5).exp()
    want = torch.cat([weights.sum()[None], weights @ values[0]])
    error = (sums.mean(0) - want).abs() / (sums.std(0) / draws**0.5)
    assert error.max() < 4, error


@pytest.mark.parametrize("name", ["reference", "cpu_native", "cpu_numba"])
def test_a_zero_query_has_the_same_chance_at_every_angle(name):
    if registry.why_not("direct_probes", name):
        pytest.skip(registry.why_not("direct_probes", name))
    law = directed(torch.zeros(1, 1, 6, 5), 4, 1, name)
    want = np.log(1 - (1 - 4 / 32) ** 6)
    assert law.tables[0] == pytest.approx(np.full(TABLE_CELLS + 1, want), abs=1e-5)


def test_all_buckets_find_every_key():
    law = directed(torch.randn(1, 1, 2, 3, generator=torch.Generator().manual_seed(3)), 8, 2)
    assert law.tables[0] == pytest.approx(np.zeros(TABLE_CELLS + 1), abs=1e-6)


def test_tiny_probabilities_keep_their_relative_accuracy():
    hits = torch.full((150, 1), -40.0, dtype=torch.float64)
    assert log_at_least(2, hits).item() == pytest.approx(np.log(150 * 149 / 2) - 80, rel=1e-12)


@pytest.mark.parametrize(("K", "P"), [(1, 2), (3, 8), (6, 20), (9, 33)])
def test_candidate_sets_hold_the_nearest_whatever_the_margins(K, P):
    table = probe_sets(K, P)
    masks = [0]
    for _, rest, top in table[1:]:
        masks.append(masks[rest] | 1 << top)
    assert len(set(masks)) == len(masks)
    every = (np.arange(1 << K)[:, None] >> np.arange(K)) & 1
    for seed in range(20):
        squares = np.sort(np.random.default_rng(seed).standard_normal(K) ** 2)
        nearest = np.argsort(every @ squares, kind="stable")[:P]
        assert set(nearest.tolist()) <= set(masks)
