"""Arguments of every operation at the size of a workload."""

from __future__ import annotations

from typing import Any

from truffle.bench.attend_arguments import ATTENDING
from truffle.bench.block_arguments import BLOCK
from truffle.bench.layer_data import LayerData
from truffle.bench.scan_arguments import SCAN
from truffle.bench.table_arguments import TABLES

LAYER = TABLES | ATTENDING | SCAN


def arguments_of(op: str, data: LayerData, draw: int = 0) -> dict[str, Any]:
    """Arguments of `op` on a layer; another draw brings other queries.

    Raises:
        KeyError: the operation has no arguments at workload size.
    """
    if op in BLOCK:
        return BLOCK[op](data.sizes, draw)
    if op not in LAYER:
        raise KeyError(f"no arguments at workload size for operation {op!r}")
    return LAYER[op](data, draw)
