"""Drawn shapes and hostile contents through the whole chain: hash, build, retrieve, attend, against the reference.

Every step starts from what the reference gave, so that a hash bit on the edge does not count as a wrong sample. What
is promised of keys with NaN or infinity: they may be hashed anywhere, and only heads that sampled one may be NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from truffle.kernels import registry
from truffle.kernels.collision import CollisionLaw
from truffle.kernels.planes import hyperplanes, probe_masks
from truffle.kernels.retrieve.contract import build_segments
from truffle.kernels.sparse_attend.contract import LSE_ABSOLUTE, RELATIVE_RMS
from truffle.kernels.store import Store

CONTENTS = ("usual", "one bucket", "duplicates", "zero", "centred", "huge", "overflowing", "special")
SPECIAL = (float("nan"), float("inf"), -float("inf"))
LARGEST_LOGIT = 1e5  # beyond it float32 cannot tell neighbours apart


@dataclass(frozen=True)
class Scenario:
    """One drawn set of sizes and contents; `segments` are the lengths of each request's segments."""

    segments: tuple[tuple[int, ...], ...]
    Hkv: int
    G: int
    d: int
    K: int
    L: int
    min_hits: int
    ball: int
    dtype: torch.dtype
    contents: str
    by_law: bool
    threads: int
    seed: int


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    length = st.sampled_from((1, 2, 15, 16, 17, 31, 64, 100, 257))
    K, L = draw(st.sampled_from((1, 2, 4, 7, 16))), draw(st.sampled_from((1, 2, 5, 18)))
    return Scenario(
        segments=tuple(draw(st.lists(st.lists(length, max_size=3).map(tuple), min_size=1, max_size=3))),
        Hkv=draw(st.sampled_from((1, 2))),
        G=draw(st.sampled_from((1, 3, 4))),
        d=draw(st.sampled_from((2, 16, 34, 64))),
        K=K,
        L=L,
        min_hits=draw(st.integers(1, min(3, L))),
        ball=draw(st.integers(0, min(1, K - 1))),
        dtype=draw(st.sampled_from((torch.float32, torch.bfloat16, torch.int8))),
        contents=draw(st.sampled_from(CONTENTS)),
        by_law=draw(st.booleans()),
        threads=draw(st.sampled_from((1, 2, 7))),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


class Chain:
    """A scenario's tensors, each step as the reference computes it."""

    def __init__(self, s: Scenario) -> None:
        self.s, self.generator = s, torch.Generator().manual_seed(s.seed)
        self.dtype = torch.float32 if s.dtype == torch.int8 else s.dtype
        B, H = len(s.segments), s.Hkv * s.G
        self.center = torch.randn(B, s.Hkv, s.d, generator=self.generator)
        self.q = torch.randn(B, H, s.d, generator=self.generator)
        self.q *= {"huge": 300.0, "overflowing": 1e20}.get(s.contents, 1.0)
        self.q[-1, -1] *= float(s.seed % 5 != 0)  # a query of norm zero, now and then
        self.q = self.q.to(self.dtype)
        self.stores = [self._store(b, sum(lengths)) for b, lengths in enumerate(s.segments)]
        self.planes = torch.from_numpy(hyperplanes(s.d, s.K, s.L, s.seed % 1000, 0).copy())

    def _store(self, b: int, n: int) -> Store:
        s, center = self.s, self.center[b]
        keys, values = torch.randn(2, s.Hkv, n, s.d, generator=self.generator)
        if s.contents == "duplicates":
            keys = keys[:, torch.randint(0, max(1, n // 8), (n,), generator=self.generator)] if n else keys
        elif s.contents == "one bucket":
            keys = keys[:, :1].expand(-1, n, -1)
        elif s.contents == "centred" and s.dtype != torch.int8:  # which rounds them apart: an angle of rounding errors
            center = self.center[b] = center.to(self.dtype).float()
            keys = torch.where(torch.rand(n, 1, generator=self.generator) < 0.5, center[:, None], keys)
        elif s.contents in ("zero", "overflowing"):
            keys = keys * (0.0 if s.contents == "zero" else 1e20)
        elif s.contents == "special" and n:
            rows = torch.randperm(n, generator=self.generator)[: 1 + n // 20]
            keys = keys.index_fill(1, rows, SPECIAL[s.seed % 3])
        return Store.allocate(s.Hkv, n, s.d, s.dtype).appended(keys, values)

    def hashing(self, b: int) -> dict:
        s, keys = self.s, self.stores[b].keys.contiguous()
        codes = torch.full((s.Hkv, s.L, keys.shape[1]), 0xFFFF, dtype=torch.uint16)
        return {"x": keys, "planes": self.planes, "center": self.center[b], "codes": codes, "K": s.K}

    def building(self, codes: torch.Tensor) -> dict:
        R, L, n = codes.shape
        offsets = torch.full((R, L, (1 << self.s.K) + 1), -1, dtype=torch.int32)
        ids = torch.full((R, L, n), 0xFFFF, dtype=torch.uint16)
        return {"codes": codes, "offsets": offsets, "ids": ids, "K": self.s.K}

    def retrieving(self, codes: list[torch.Tensor]) -> dict:
        s, (B, H, d) = self.s, self.q.shape
        own = torch.empty(1, s.L, B * H, dtype=torch.uint16)
        reference("hash_codes", x=self.q.view(1, B * H, d), planes=self.planes, center=None, codes=own, K=s.K)
        probes = own[0].T.int()[..., None] ^ torch.from_numpy(probe_masks(s.K, s.ball).astype("int32"))
        tables = [build_segments(codes[b], s.K, list(lengths)) for b, lengths in enumerate(s.segments)]
        capacity = max(1, max(map(sum, s.segments)))
        return {
            "tables": tables,
            "query_codes": probes.to(torch.uint16).view(B, H, s.L, -1).contiguous(),
            "ids": torch.full((B * H, capacity), -1, dtype=torch.int32),
            "count": torch.full((B * H,), -1, dtype=torch.int32),
            "min_hits": s.min_hits,
        }

    def attending(self, ids: torch.Tensor, count: torch.Tensor) -> dict:
        s = self.s
        return {
            "q": self.q,
            "stores": self.stores,
            "ids": ids,
            "count": count,
            "center": self.center if s.by_law else None,
            "law": CollisionLaw(s.K, s.L, s.min_hits, s.ball) if s.by_law else None,
            "log_weight": None if s.by_law else -3 * torch.rand(ids.shape, generator=self.generator),
            "out": torch.full(self.q.shape, torch.nan),
            "lse": torch.full(self.q.shape[:2], torch.nan),
            "scale": s.d**-0.5,
        }


def reference(op: str, **arguments) -> dict:
    registry.get(op, "reference")(**arguments)
    return arguments


def copied(arguments: dict) -> dict:
    return {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in arguments.items()}


def contenders(op: str) -> Iterator[tuple[str, str]]:
    for name in ("cpu_native", "cpu_numba"):
        if name in registry.names(op) and registry.why_not(op, name) is None:
            for isa in registry.get(op, name).needs.isas or ("auto",):
                if isa == "auto" or runs(isa):
                    yield name, isa


def runs(isa: str) -> bool:
    from truffle.kernels.isa import why_not

    return why_not(isa) is None


def agree(op: str, arguments: dict, threads: int, compare) -> dict:
    """Run the reference and all others; returns what the reference gave."""
    want = reference(op, **copied(arguments))
    for name, isa in contenders(op):
        got = copied(arguments)
        registry.get(op, name)(**got, threads=threads, isa=isa)
        problem = compare(got, want)
        assert problem is None, f"{op}/{name} on {isa}: {problem}"
    return want


def sampled_rows(arguments: dict) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Request, head and its sampled keys."""
    B, H, _ = arguments["q"].shape
    for row in range(B * H):
        b, h = divmod(row, H)
        store = arguments["stores"][b]
        chosen = arguments["ids"][row, : arguments["count"][row]].long()
        yield b, h, store.keys[h // (H // store.rows.shape[0]), chosen].double()


def compare_heads(got: dict, want: dict) -> str | None:
    """Heads whose logits float32 can hold agree, whatever the others do; none is left as it was."""
    dtype = str(want["stores"][0].rows.dtype).removeprefix("torch.")
    for b, h, keys in sampled_rows(want):
        out, lse = got["out"][b, h], got["lse"][b, h]
        if len(keys) == 0:
            if lse != -torch.inf or out.any():
                return f"head {b, h} sampled nothing and is {lse}, {out}"
            continue
        size = want["scale"] * float((keys.abs() @ want["q"][b, h].double().abs()).max())
        if not size < LARGEST_LOGIT:  # NaN is not
            continue
        rounding = 2.0**-20 * size
        error = float((out - want["out"][b, h]).norm() / want["out"][b, h].norm().clamp_min(1e-30))
        if not error <= 3 * RELATIVE_RMS[dtype] + rounding:
            return f"out of head {b, h} differs by {error:.2e} with logits up to {size:.1f}"
        difference = float((lse - want["lse"][b, h]).abs())
        if not difference <= LSE_ABSOLUTE[dtype] + rounding:
            return f"lse of head {b, h} differs by {difference:.2e} with logits up to {size:.1f}"
    return None


def fused(sample: dict, attending: dict) -> dict:
    """Arguments of both operations in one, outputs untouched."""
    names = ("q", "stores", "center", "law", "out", "lse", "scale")
    found = {name: sample[name] for name in ("tables", "query_codes", "min_hits")}
    return found | {name: attending[name] for name in names} | {"count": torch.full_like(sample["count"], -1)}


def compare_fused(got: dict, want: dict, sample: dict) -> str | None:
    if not torch.equal(got["count"], want["count"]):
        return f"count differs: {got['count'].tolist()} against {want['count'].tolist()}"
    return compare_heads(got, want | {"ids": sample["ids"]})


def run_chain(s: Scenario) -> None:
    chain, codes = Chain(s), []
    for b in range(len(s.segments)):
        hashing = chain.hashing(b)
        codes.append(agree("hash_codes", hashing, s.threads, registry.contract("hash_codes").compare)["codes"])
        agree("build_tables", chain.building(codes[-1]), s.threads, registry.contract("build_tables").compare)
    sample = agree("retrieve", chain.retrieving(codes), s.threads, registry.contract("retrieve").compare)
    attending = chain.attending(sample["ids"], sample["count"])
    agree("sparse_attend", attending, s.threads, compare_heads)
    if s.by_law:
        agree(
            "retrieve_attend", fused(sample, attending), s.threads, lambda got, want: compare_fused(got, want, sample)
        )


COMMON = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}


@given(scenarios())
@settings(max_examples=40, **COMMON)
def test_chain(scenario):
    run_chain(scenario)


@pytest.mark.slow
@given(scenarios())
@settings(max_examples=600, **COMMON)
def test_chain_longer(scenario):
    run_chain(scenario)


@pytest.mark.parametrize("contents", CONTENTS)
def test_every_kind_of_content_once(contents):
    shape = {"segments": ((100, 17), (), (31,)), "Hkv": 2, "G": 3, "d": 64, "K": 2, "L": 18, "min_hits": 2, "ball": 0}
    run_chain(Scenario(**shape, dtype=torch.bfloat16, contents=contents, by_law=True, threads=3, seed=7))
