"""MagicPIG v0.2's two CPU extensions, where they are importable: what they can run, and with how many threads.

`lsh` and `sparse_attention_cpu` come from https://github.com/Infini-AI-Lab/MagicPIG (ac9aa36, library/), which this
project neither holds nor installs. They are compiled for one number of threads.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from truffle.bench.sizes import Sizes

MODULES = ("lsh", "sparse_attention_cpu")
# Upstream asks for this much room beyond the context; its kernels touch up to 15 entries past a sample.
SPARE_TOKENS = 192


def is_installed() -> bool:
    """Whether both modules are there; they may still fail to load."""
    return all(_problem(name) != "absent" for name in MODULES)


def why_not(s: Sizes, threads: int) -> str | None:
    """Why the extensions cannot run this layer with `threads` threads, or None when they can."""
    for name in MODULES:
        problem = _problem(name)
        if problem:
            return f"{name}: {problem}"
    for holds, reason in (
        (s.batch == 1, "requests of a batch share one store here, which it cannot"),
        (s.min_hits == 2, "its min_hits is 2"),
        (s.probing.kind == "none", "it visits the query's own buckets only"),
        (s.K <= 15, "its codes are 16-bit with a sign, so K is at most 15"),
        (s.dtype == torch.bfloat16, "its keys are bfloat16"),
        (s.head_dim % 32 == 0, "its head_dim is a multiple of 32"),
        (s.head_dim == 128 or (threads, s.heads) != (64, 32), "its head_dim is 128 for 32 heads on 64 threads"),
        (_largest_array(s) < 1 << 31, "its 32-bit sizes overflow"),
    ):
        if not holds:
            return reason
    built = " and ".join(map(str, sorted(built_threads())))
    return None if built == str(threads) else f"built for {built} threads, not {threads}"


@cache
def built_threads() -> set[int]:
    """Threads that the two extensions compute with. They say it nowhere, so a call of each is watched."""
    s = Sizes(context=16, heads=2, kv_heads=1, head_dim=32, K=1, L=2)
    tables, store = new_tables(s, 1, s.context), new_store(s, 1, s.context)
    q, out = torch.zeros(2, s.heads, s.head_dim, dtype=torch.bfloat16)
    ids, codes = (torch.zeros(s.heads, width, dtype=torch.int32) for width in (s.context, s.L))
    count, norms, lse = torch.zeros(s.heads, dtype=torch.int32), torch.ones(s.heads), torch.zeros(2, s.heads)
    return {
        _threads_started(lambda: tables.batch_retrieve(0, codes, ids, count)),
        _threads_started(lambda: store.attention_wrapper(0, s.K, s.L, out, lse, q, norms, ids, count)),
    }


def isa() -> str:
    """The instruction set that it was compiled for."""
    server = importlib.import_module(MODULES[1]).SparseAttentionServer
    return "avx512_bf16" if hasattr(server, "attention_wrapper_bf16") else "avx512"


def new_tables(s: Sizes, layers: int, capacity: int) -> Any:
    """Upstream's tables of `layers` layers for one request, empty."""
    tables = importlib.import_module(MODULES[0]).LSH()
    tables.alloc(s.K, s.L, layers, s.heads, s.kv_heads, 1, capacity)
    return tables


def new_store(s: Sizes, layers: int, capacity: int) -> Any:
    """Upstream's keys and values of `layers` layers for one request, empty."""
    store = importlib.import_module(MODULES[1]).SparseAttentionServer()
    store.alloc(layers, s.heads, s.kv_heads, s.head_dim, 1, capacity)
    return store


def _largest_array(s: Sizes) -> int:
    capacity = s.context + SPARE_TOKENS
    return max(s.heads * capacity, s.kv_heads * s.L * max(capacity, 1 << s.K), s.kv_heads * capacity * s.head_dim)


def _problem(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError:
        return "absent"
    except ImportError as error:
        return f"cannot be imported: {error}"
    return None


def _threads_started(call: Callable[[], object]) -> int:
    """Threads that `call` uses: OpenMP gives a new caller a team of its own, so what appears is all of it."""
    found = []

    def count() -> None:
        before = set(os.listdir("/proc/self/task"))
        call()
        found.append(1 + len(set(os.listdir("/proc/self/task")) - before))

    caller = threading.Thread(target=count)
    caller.start()
    caller.join()
    return found[0]
