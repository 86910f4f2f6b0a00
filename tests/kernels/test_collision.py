"""The inclusion law: reference values, table accuracy, and agreement with drawn hyperplanes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from truffle.kernels.collision import TABLE_CELLS, CollisionLaw
from truffle.kernels.planes import hyperplanes, probe_masks

COSINES = np.array([-0.25, 0.0, 0.25, 0.5, 0.75, 0.9])


@pytest.mark.parametrize(
    ("law", "values"),
    [
        (CollisionLaw(8, 75, 2), [0.00244, 0.03508, 0.25172, 0.79556, 0.99941, 1.0]),
        (CollisionLaw(9, 120, 2), [0.00112, 0.02339, 0.22638, 0.82210, 0.99992, 1.0]),
        (CollisionLaw(10, 150, 2), [0.00031, 0.00968, 0.13871, 0.73555, 0.99986, 1.0]),
        (CollisionLaw(10, 75, 1), [0.01260, 0.07066, 0.27835, 0.73073, 0.99666, 1.0]),
        (CollisionLaw(8, 75, 1), [0.06953, 0.25438, 0.62185, 0.94946, 0.99995, 1.0]),
    ],
    ids=lambda value: f"K{value.K}-L{value.L}-m{value.min_hits}" if isinstance(value, CollisionLaw) else "",
)
def test_reference_values(law, values):
    assert np.exp(law.log_inclusion(COSINES)) == pytest.approx(values, abs=5.1e-6)


def test_tiny_probabilities_keep_their_relative_accuracy():
    law = CollisionLaw(16, 150, 2)
    agreement = 0.01
    leading = np.log(150 * 149 / 2) + 2 * 16 * np.log(agreement)
    assert law.log_inclusion_at(np.array([agreement]))[0] == pytest.approx(leading, rel=1e-9)


def test_ends_are_finite_or_minus_infinity_and_never_above_zero():
    for law in (
        CollisionLaw(1, 1, 1),
        CollisionLaw(16, 1, 1),
        CollisionLaw(10, 150, 3),
        CollisionLaw(8, 20, 2, 2),
    ):
        logs = law.log_inclusion(np.array([-1.5, -1.0, 1.0, 1.5]))
        assert np.all(logs[:2] == -np.inf)
        assert logs[2:] == pytest.approx([0.0, 0.0], abs=1e-12)
        assert np.all(np.isfinite(law.tables[0]))


@pytest.mark.parametrize("law", [CollisionLaw(10, 150, 2), CollisionLaw(16, 1, 1), CollisionLaw(12, 60, 2, 1)], ids=str)
def test_interpolating_the_table_errs_by_less_than_1e_5(law):
    agreement = np.random.default_rng(0).uniform(0.25, 1.0, 20_000)
    got = np.interp(agreement * TABLE_CELLS, np.arange(TABLE_CELLS + 1), law.tables[0])
    assert np.abs(got - law.log_inclusion_at(agreement)).max() < 1e-5


@pytest.mark.parametrize(
    "law",
    [
        CollisionLaw(4, 10, 1),
        CollisionLaw(4, 10, 2),
        CollisionLaw(3, 12, 3),
        CollisionLaw(6, 10, 2, 1),
        CollisionLaw(5, 9, 3, 1),
    ],
    ids=str,
)
def test_keys_are_sampled_as_often_as_the_law_says(law):
    """20,000 independent draws of the planes; each frequency within 4 standard errors."""
    draws, d = 20_000, 8
    cosines = np.array([-0.3, 0.0, 0.4, 0.8])
    keys = np.zeros((4, d), np.float32)
    keys[:, 0], keys[:, 1] = cosines, np.sqrt(1 - cosines**2)
    query = np.eye(1, d, dtype=np.float32)[0]
    planes = hyperplanes(d, law.K, law.L * draws, seed=1, layer=0)
    weights = 2 ** np.arange(law.K)
    bits = lambda x: ((x @ planes > 0).reshape(draws, law.L, law.K) * weights).sum(-1)  # noqa: E731
    probed = bits(query)[..., None] ^ probe_masks(law.K, law.ball)
    for key, log_u in zip(keys, law.log_inclusion(cosines), strict=True):
        hits = (bits(key)[..., None] == probed).any(-1).sum(-1)
        u = np.exp(log_u)
        assert abs((hits >= law.min_hits).mean() - u) < 4 * np.sqrt(u * (1 - u) / draws)


def test_planes_depend_on_seed_and_layer_only():
    drawn = np.random.Generator(np.random.PCG64([5, 6])).standard_normal((8, 12), np.float32)
    assert np.array_equal(hyperplanes(8, 3, 4, 5, 6), torch.from_numpy(drawn).bfloat16().float().numpy())
    assert not np.array_equal(hyperplanes(8, 3, 4, 5, 6), hyperplanes(8, 3, 4, 5, 7))


@pytest.mark.parametrize("law", [CollisionLaw(4, 20, 2), CollisionLaw(5, 12, 1)], ids=str)
def test_numerator_and_denominator_are_unbiased(law):
    """600 draws of the planes: the mean of exp(lse) and of exp(lse) * out within 4 standard errors."""
    from truffle.kernels import registry
    from truffle.kernels.retrieve.contract import build_segments
    from truffle.kernels.store import Store

    n, d, draws = 150, 16, 600
    generator = torch.Generator().manual_seed(0)
    keys, values = torch.randn(2, 1, n, d, generator=generator)
    q = torch.randn(1, 1, d, generator=generator)
    center = keys.mean(1)
    store = Store.allocate(1, n, d, torch.float32).appended(keys, values)
    hash_codes, retrieve, attend = (registry.get(op) for op in ("hash_codes", "retrieve", "sparse_attend"))
    sums = []
    for seed in range(draws):
        planes = torch.from_numpy(hyperplanes(d, law.K, law.L, seed, 0).copy())
        codes = torch.empty(1, law.L, n, dtype=torch.uint16)
        query_codes = torch.empty(1, law.L, 1, dtype=torch.uint16)
        hash_codes(keys, planes, center, codes, K=law.K)
        hash_codes(q, planes, None, query_codes, K=law.K)
        ids, count = torch.empty(1, n, dtype=torch.int32), torch.empty(1, dtype=torch.int32)
        retrieve([build_segments(codes, law.K, [n])], query_codes[None], ids, count, min_hits=law.min_hits)
        out, lse = torch.empty(1, 1, d), torch.empty(1, 1)
        attend(q, [store], ids, count, center[None], law, None, out, lse, scale=d**-0.5)
        sums.append(torch.cat([lse.exp(), lse.exp() * out[0]], dim=1)[0])
    sums = torch.stack(sums)
    weights = (keys[0] @ q[0, 0] * d**-0.5).exp()
    want = torch.cat([weights.sum()[None], weights @ values[0]])
    error = (sums.mean(0) - want).abs() / (sums.std(0) / draws**0.5)
    assert error.max() < 4, error
