"""sparse_attend in C++: a tile of rows at a time, the next tile prefetched, samples split between threads."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from truffle.kernels.collision import InclusionLaw
from truffle.kernels.contract import Needs
from truffle.kernels.handles import expect_whole_store
from truffle.kernels.isa import ISAS, PINNING, native, resolve
from truffle.kernels.registry import implements
from truffle.kernels.store import Store


@implements("sparse_attend", "cpu_native", Needs(isas=ISAS, pinning=PINNING))
def sparse_attend(
    q: torch.Tensor,
    stores: Sequence[Store],
    ids: torch.Tensor,
    count: torch.Tensor,
    center: torch.Tensor | None,
    law: InclusionLaw | None,
    log_weight: torch.Tensor | None,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    scale: float,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    handles = [native_store(store) for store in stores]
    tables = None if law is None else law.tables
    native.sparse_attend(
        q, handles, ids, count, center, tables, log_weight, out, lse, scale, threads, resolve(isa), pinning
    )


def native_store(store: Store) -> native.Store:
    """The store's native handle, made once and kept beside its fields."""
    handle = store.__dict__.get("_native")
    if handle is None:
        expect_whole_store(store, "stores")
        handle = store.__dict__["_native"] = native.Store(store.rows, store.length, store.head_dim)
    return handle
