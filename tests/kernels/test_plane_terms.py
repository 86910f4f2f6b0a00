"""Planes split into bfloat16 terms, and how long what is made of them is kept."""

from __future__ import annotations

import gc

import pytest
import torch

from truffle.kernels import plane_terms
from truffle.kernels.planes import hyperplanes


def drawn(d: int = 20, columns: int = 21) -> torch.Tensor:
    return torch.randn(d, columns, generator=torch.Generator().manual_seed(0))


def test_planes_of_a_layer_are_one_term_and_others_exactly_three():
    rounded = torch.from_numpy(hyperplanes(64, 5, 6, 1, 2).copy())
    assert torch.equal(plane_terms.terms(rounded)[0].float(), rounded)
    assert len(plane_terms.terms(rounded)) == 1
    parts = plane_terms.terms(drawn())
    assert len(parts) == plane_terms.EXACT_TERMS
    assert torch.equal(parts.double().sum(0), drawn().double())


@pytest.mark.parametrize("group", [3, 21, 10])
def test_blocks_hold_every_column_once_and_zeros(group):
    parts = plane_terms.terms(drawn())
    blocks = plane_terms.blocks(parts, group, 32, 64)
    assert blocks.shape == (-(-21 // group), 3, 32, 64)
    columns = blocks[:, :, :group, :20].transpose(0, 1).flatten(1, 2)[:, :21]
    assert torch.equal(columns.transpose(1, 2), parts)
    assert blocks.count_nonzero() == parts.count_nonzero()


def test_what_is_made_is_kept_until_the_planes_change_or_go():
    planes, made = drawn(), []

    def make() -> int:
        made.append(0)
        return len(made)

    assert [plane_terms.once(planes, "a", make) for _ in range(3)] == [1, 1, 1]
    assert plane_terms.once(planes, "b", make) == 2
    planes[0, 0] = 0.0
    assert plane_terms.once(planes, "a", make) == 3
    held = len(plane_terms._made)
    del planes
    gc.collect()
    assert len(plane_terms._made) == held - 1
