"""Synthetic keys and queries sample as many keys as MagicPIG's Table 9 says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from truffle.bench import synthetic
from truffle.bench.arguments import arguments_of
from truffle.bench.layer_data import LayerData
from truffle.bench.sizes import Sizes
from truffle.kernels import registry
from truffle.kernels.collision import CollisionLaw

TABLES = (75, 100, 120, 150, 200, 300)
TABLE_9 = {
    7: (14, 21, 27, 35, 48, 66),
    8: (5, 8, 11, 15, 22, 36),
    9: (1.6, 2.7, 4, 5.4, 8.5, 15.4),
    10: (0.5, 0.9, 1.5, 2, 3, 6),
    11: (0.15, 0.3, 0.5, 0.6, 1, 2),
}


@pytest.mark.parametrize("head_dim", [64, 128])
def test_all_30_sampled_fractions_within_7_percent_rms(head_dim):
    keys, _ = synthetic.keys_and_values(1, 20_000, head_dim, 0, torch.float32)
    centred = keys[0] - keys[0].mean(0)
    queries = synthetic.queries(1, 40, head_dim, 1, torch.float32)[0]
    cosines = torch.nn.functional.normalize(queries, dim=1) @ torch.nn.functional.normalize(centred, dim=1).T
    histogram, edges = np.histogram(cosines.numpy(), bins=800, range=(-1, 1))
    middles, weights = (edges[1:] + edges[:-1]) / 2, histogram / histogram.sum()
    logs = []
    for K, row in TABLE_9.items():
        for L, percent in zip(TABLES, row, strict=True):
            fraction = (weights * np.exp(CollisionLaw(K, L).log_inclusion(middles))).sum()
            logs.append(np.log(100 * fraction / percent))
    assert np.sqrt(np.mean(np.square(logs))) < 0.07


def test_tables_over_them_sample_that_many():
    data = LayerData(Sizes(context=20_000, heads=16, kv_heads=1, head_dim=128, K=8, L=75), threads=2)
    found = arguments_of("retrieve", data)
    registry.get("retrieve")(**found)
    assert float(found["count"].float().mean()) / 20_000 == pytest.approx(0.05, rel=0.1)


def test_head_dims_that_cannot_be_calibrated_are_refused():
    with pytest.raises(ValueError, match="head_dim: expected one that allows"):
        synthetic.spectrum(256)
