"""What the codes of keys promise a scan: estimates that are not shrunk, and tokens that can be appended."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from truffle.kernels import registry, scanning
from truffle.kernels.checks import ArgumentError
from truffle.kernels.codes import BITS, Codes, code_bytes, unpacked
from truffle.kernels.rotation import rotation

NAMES = [name for name in ("reference", "cpu_numba", "cpu_native") if registry.why_not("quantize_keys", name) is None]
LEAST_CORRELATION = {1: 0.78, 2: 0.93, 4: 0.99}  # of estimates with scores of Gaussian keys


def turn(d: int) -> torch.Tensor:
    return torch.from_numpy(rotation(d, 3, 0).copy())


def append(codes: Codes, keys: torch.Tensor, name: str = "reference") -> Codes:
    longer = codes.longer(keys.shape[1])
    arguments = keys, torch.zeros(keys.shape[0], keys.shape[2]), turn(keys.shape[2]), longer.words, longer.scales
    registry.get("quantize_keys", name)(*arguments, start=codes.length, bits=codes.bits)
    return longer


def random_keys(heads: int, n: int, d: int) -> torch.Tensor:
    return torch.randn(heads, n, d, generator=torch.Generator().manual_seed(n + d))


def levels(codes: Codes) -> torch.Tensor:
    return 2.0 * unpacked(codes.words, codes.head_dim, codes.bits)[:, : codes.length] - (2**codes.bits - 1)


@pytest.mark.parametrize("d", [18, 64, 80, 96, 128])
def test_the_rotation_is_orthogonal_and_the_same_every_time(d):
    turned = rotation(d, 7, 2)
    assert np.abs(turned @ turned.T - np.eye(d)).max() < 0.01  # entries have eight bits
    assert np.array_equal(turned, rotation.__wrapped__(d, 7, 2))
    assert not np.array_equal(turned, rotation(d, 7, 3))
    assert not np.array_equal(turned, rotation(d, 8, 2))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", NAMES)
def test_the_product_of_a_key_with_its_code_is_its_squared_norm(name, bits):
    keys = random_keys(2, 130, 96)
    codes = append(Codes.allocate(2, 130, 96, bits), keys, name)
    scales = codes.scales.view(2, -1)[:, :130].float()
    products = scales * ((keys @ turn(96)) * levels(codes)).sum(-1)
    assert torch.allclose(products, keys.square().sum(-1), rtol=0.01)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("d", [64, 128])
def test_estimates_are_neither_shrunk_nor_far_off(d, bits):
    keys, q = random_keys(1, 4000, d), torch.randn(8, d, generator=torch.Generator().manual_seed(1))
    codes = append(Codes.allocate(1, 4000, d, bits), keys)
    estimated, true = scanning.estimates(q @ turn(d), codes, 1.0), (q @ keys[0].T).double()
    slope = (estimated * true).sum() / true.square().sum()
    assert abs(float(slope) - 1) < 0.02
    found = torch.corrcoef(torch.stack([estimated.flatten(), true.flatten()]))[0, 1]
    assert float(found) > LEAST_CORRELATION[bits]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", NAMES)
def test_tokens_appended_in_pieces_are_those_quantised_at_once(name, bits):
    keys = random_keys(2, 300, 80)
    whole = append(Codes.allocate(2, 300, 80, bits), keys, name)
    parts = Codes.allocate(2, 10, 80, bits)
    for part in keys.split([1, 62, 1, 2, 190, 44], dim=1):
        parts = append(parts, part.contiguous(), name)
    assert torch.equal(unpacked(parts.words, 80, bits)[:, :300], unpacked(whole.words, 80, bits)[:, :300])
    assert torch.equal(parts.scales.view(2, -1)[:, :300], whole.scales.view(2, -1)[:, :300])


def test_memory_is_what_was_counted():
    codes = Codes.allocate(8, 1000, 128, 4)
    assert codes.memory_bytes == code_bytes(8, 1000, 128, 4) == 8 * 1024 * 66
    assert Codes.allocate(1, 64, 80, 1).words.shape == (1, 1, 3, 64)
    with pytest.raises(ArgumentError, match="bits: expected 1, 2 or 4, got 3"):
        Codes.allocate(1, 64, 64, 3)


@pytest.mark.parametrize("name", NAMES)
def test_refusals(name):
    contract = registry.contract("quantize_keys")
    for change, expected in [
        ({"bits": 3}, "bits: expected 1, 2 or 4, got 3"),
        ({"bits": 2}, "words: expected W = 4 words"),
        ({"start": -1}, "start: expected 0 to"),
        ({"start": 10**9}, "start: expected 0 to"),
        ({"start": 0.5}, "start: expected 0 to"),
    ]:
        with pytest.raises(ArgumentError, match=expected):
            registry.get("quantize_keys", name)(**contract.arguments(contract.cases[1]) | change)
