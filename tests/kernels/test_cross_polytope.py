"""Cross-polytope hashes: their collision table, the polynomial that tells it, and drawn rotations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from truffle.kernels import cross_polytope
from truffle.kernels.collision import TABLE_CELLS, CollisionLaw
from truffle.kernels.cross_polytope import CrossPolytopeLaw, cross_polytope_codes, hashes_of, log_agreement
from truffle.kernels.planes import hyperplanes
from truffle.kernels.polytope_integral import log_scaled_probability

DEGREES = np.array([10, 30, 60, 90, 120])
KNOWN = {  # METHODS 4.7
    8: [0.8325, 0.5451, 0.2325, 0.0625, 0.00656],
    16: [0.8071, 0.4890, 0.1730, 0.03125, 0.00121],
    32: [0.7843, 0.4413, 0.1298, 0.0156, 0.000197],
    64: [0.7636, 0.4005, 0.0982, 0.00781, 2.97e-5],
    128: [0.7448, 0.3652, 0.0747, 0.00391, 4.3e-6],
}


@pytest.mark.parametrize("coordinates", KNOWN)
def test_the_known_table_to_three_digits(coordinates):
    found = np.exp(log_agreement(1 - DEGREES / 180, coordinates))
    assert found == pytest.approx(KNOWN[coordinates], rel=1.2e-2 if coordinates == 128 else 3.5e-3)
    assert found[3] == pytest.approx(1 / (2 * coordinates), rel=1e-6), "independent at a right angle"


@pytest.mark.parametrize("coordinates", [1, 2, 16, 128])
def test_the_polynomial_is_the_integral_at_every_angle(coordinates):
    agreement = np.random.default_rng(0).uniform(1e-4, 1 - 1e-4, 40)
    want = [log_scaled_probability(at, coordinates) + coordinates * np.log(at) for at in agreement]
    assert log_agreement(agreement, coordinates) == pytest.approx(want, abs=2e-6)
    ends = log_agreement(np.array([0.0, 1.0]), coordinates)
    assert ends[0] == -np.inf
    assert ends[1] == pytest.approx(0.0, abs=1e-5)


def test_one_coordinate_is_a_sign():
    x, planes = torch.randn(2, 30, 9), torch.from_numpy(hyperplanes(9, 5, 4, 0, 0).copy())
    found, want = torch.empty(2, 2, 4, 30, dtype=torch.uint16)
    center = x.mean(1)
    cross_polytope_codes(x, planes, center, found, hashes_of(5, 1))
    bits = ((x - center[:, None]) @ planes > 0).unflatten(-1, (4, 5)) << torch.arange(5)
    want.copy_(bits.sum(-1).transpose(1, 2))
    assert torch.equal(found, want)
    cosines = np.linspace(-0.99, 1, 50)
    law, plain = CrossPolytopeLaw(6, 20, 2, coordinates=1), CollisionLaw(6, 20, 2)
    assert law.log_inclusion(cosines) == pytest.approx(plain.log_inclusion(cosines), abs=1e-9)


@pytest.mark.parametrize(("K", "coordinates", "L", "n"), [(10, 32, 7, 1500), (6, 16, 3, 1), (5, 1, 40, 33)])
def test_the_cpus_codes_are_those_of_plain_torch(monkeypatch, K, coordinates, L, n):
    hashes = hashes_of(K, coordinates)
    x, center = torch.randn(2, n, 24), torch.randn(2, 24)
    planes = torch.from_numpy(hyperplanes(24, sum(hashes), L, 0, 0).copy())
    found, want = torch.zeros(2, 2, L, n, dtype=torch.uint16)
    monkeypatch.setattr(cross_polytope, "_SCRATCH", 3 * 2 * n * sum(hashes))  # a last part of one table or two
    cross_polytope_codes(x, planes, center, found, hashes)
    monkeypatch.setattr(cross_polytope, "_pack_here", cross_polytope._pack_there)
    cross_polytope_codes(x, planes, center, want, hashes)
    assert torch.equal(found, want)
    assert len(found.int().unique()) > 1


def test_a_table_is_as_many_hashes_as_its_bits_take_and_the_last_may_be_smaller():
    assert hashes_of(10, 16) == (16, 16)
    assert hashes_of(8, 16) == (16, 4)
    assert hashes_of(6, 16) == (16, 1)
    assert hashes_of(5, 16) == (16,)


@pytest.mark.parametrize(("K", "coordinates"), [(3, 4), (5, 16), (8, 16), (16, 128)])
def test_codes_have_their_bits_and_name_the_largest(K, coordinates):
    hashes, L = hashes_of(K, coordinates), 7
    x = torch.randn(2, 300, 24, generator=torch.Generator().manual_seed(0))
    planes = torch.from_numpy(hyperplanes(24, sum(hashes), L, 3, 0).copy())
    codes = torch.empty(2, L, 300, dtype=torch.uint16)
    cross_polytope_codes(x, planes, None, codes, hashes)
    assert int(codes.int().max()) < 1 << K
    table, token = 4, 11
    projections, want = (x[1, token] @ planes).view(L, -1)[table].tolist(), 0
    for m in reversed(hashes):
        last, projections = projections[-m:], projections[:-m]
        at = max(range(m), key=lambda j: abs(last[j]))
        want = want << m.bit_length() | 2 * at | (last[at] > 0)
    assert int(codes[1, table, token]) == want


@pytest.mark.parametrize(("K", "coordinates"), [(3, 4), (5, 16), (6, 8)])
def test_tables_collide_as_often_as_the_integral_says(K, coordinates):
    """40,000 tables; each frequency within 4.5 standard errors."""
    draws, d, hashes = 40_000, 12, hashes_of(K, coordinates)
    cosines = np.array([-0.3, 0.0, 0.5, 0.9, 0.99])
    x = torch.zeros(1, 6, d)
    x[0, :5, 0], x[0, :5, 1] = torch.tensor(cosines), torch.tensor(1 - cosines**2).sqrt()
    x[0, 5, 0] = 1.0
    planes = torch.from_numpy(hyperplanes(d, sum(hashes), draws, 1, 0).copy())
    codes = torch.empty(1, draws, 6, dtype=torch.uint16)
    cross_polytope_codes(x * 3, planes, None, codes, hashes)
    found = (codes[0, :, :5].int() == codes[0, :, 5:].int()).double().mean(0).numpy()
    want = np.exp(CrossPolytopeLaw(K, 1, 1, coordinates=coordinates).log_inclusion(cosines))
    assert np.all(np.abs(found - want) < 4.5 * np.sqrt(want * (1 - want) / draws))


@pytest.mark.parametrize(("K", "coordinates"), [(10, 16), (8, 128), (16, 64), (12, 4)])
def test_interpolating_the_table_errs_by_less_than_1e_4(K, coordinates):
    law = CrossPolytopeLaw(K, 150, 2, coordinates=coordinates)
    agreement = np.random.default_rng(0).uniform(0.25, 1.0, 5_000)
    got = np.interp(agreement * TABLE_CELLS, np.arange(TABLE_CELLS + 1), law.tables[0])
    assert np.abs(got - law.log_inclusion_at(agreement)).max() < 1e-4
    assert np.all(np.isfinite(law.tables))


def test_laws_of_other_coordinates_share_no_table():
    one, other = (CrossPolytopeLaw(10, 150, coordinates=m) for m in (4, 16))
    assert not np.array_equal(one.tables, other.tables)
    assert one.tables is CrossPolytopeLaw(10, 150, coordinates=4).tables
