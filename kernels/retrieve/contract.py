"""retrieve: the keys that share enough buckets with each query head."""

from __future__ import annotations

import torch

from truffle.kernels import registry
from truffle.kernels.checks import TensorSpec, expect
from truffle.kernels.contract import Arguments, Case, OpContract
from truffle.kernels.handles import expect_whole_segment
from truffle.kernels.planes import probe_masks
from truffle.kernels.store import Segment, empty_segment


def build_segments(codes: torch.Tensor, K: int, lengths: list[int]) -> list[Segment]:
    """Segments of consecutive lengths over codes [Hkv, L, n] uint16, by the reference."""
    build = registry.get("build_tables", "reference")
    segments, start = [], 0
    for length in lengths:
        segment = empty_segment(start, codes.shape[0], K, codes.shape[1], length)
        build(codes[:, :, start : start + length].contiguous(), segment.offsets, segment.ids, K=K)
        segments.append(segment)
        start += length
    return segments


def arguments(case: Case) -> Arguments:
    s = case.sizes
    B, H, Hkv, K, L = s["B"], s["H"], s["Hkv"], s["K"], s["L"]
    generator = torch.Generator().manual_seed(case.seed)
    distinct = s.get("distinct", 1 << K)
    tables = []
    for lengths in s["segments"]:
        codes = torch.randint(0, distinct, (Hkv, L, sum(lengths)), generator=generator).to(torch.uint16)
        tables.append(build_segments(codes, K, lengths))
    own = torch.randint(0, s.get("query_distinct", distinct), (B, H, L, 1), generator=generator)
    masks = torch.from_numpy(probe_masks(K, s.get("ball", 0)).astype("int64"))
    capacity = max(sum(lengths) for lengths in s["segments"]) + s.get("spare", 0)
    return {
        "tables": tables,
        "query_codes": (own ^ masks).to(torch.uint16),
        "ids": torch.full((B * H, capacity), -1, dtype=torch.int32),
        "count": torch.full((B * H,), -1, dtype=torch.int32),
        "min_hits": s.get("min_hits", 2),
    }


def check(arguments: Arguments, sizes: dict[str, int]) -> None:
    tables, min_hits = arguments["tables"], arguments["min_hits"]
    expect(len(tables) == sizes["B"], "tables", f"one list of segments a request, B = {sizes['B']}", len(tables))
    expect(1 <= min_hits <= sizes["L"], "min_hits", f"1 to L = {sizes['L']}", min_hits)
    for request, segments in enumerate(tables):
        covered = 0
        for position, segment in enumerate(segments):
            name = f"tables[{request}][{position}]"
            check_segment(segment, sizes, name, arguments["query_codes"].device)
            expect(
                segment.start >= covered, name, f"a start from {covered} on, as segments do not overlap", segment.start
            )
            covered = segment.start + segment.length
        capacity = sizes["capacity"]
        expect(capacity >= covered, "ids", f"room for all {covered} keys of request {request}", capacity)


def check_segment(segment: Segment, sizes: dict[str, int], name: str, device: torch.device) -> None:
    """Raise ArgumentError unless the segment is whole, on `device`, and fits the query codes."""
    expect_whole_segment(segment, name, device)
    Hkv, L, _ = segment.offsets.shape
    expect(sizes["L"] == L, name, f"L = {sizes['L']} tables as in query_codes", L)
    expect(sizes["H"] % Hkv == 0, name, f"a key/value head count that divides H = {sizes['H']}", Hkv)


def compare(got: Arguments, want: Arguments) -> str | None:
    if not torch.equal(got["count"], want["count"]):
        return f"count differs: {got['count'].tolist()} against {want['count'].tolist()}"
    for row, count in enumerate(want["count"].tolist()):
        if set(got["ids"][row, :count].tolist()) != set(want["ids"][row, :count].tolist()):
            return f"ids of row {row} differ as sets"
    return None


def bytes_moved(arguments: Arguments) -> int:
    """Offsets, bucket entries walked and ids written, each once a query head."""
    B, H, L, probes = arguments["query_codes"].shape
    written = int(arguments["count"].sum()) * 4
    walked = 0
    codes = arguments["query_codes"].to(torch.int64)
    for request, segments in enumerate(arguments["tables"]):
        for segment in segments:
            heads = torch.arange(H) // (H // segment.offsets.shape[0])
            sizes = segment.offsets.diff(dim=-1)[heads]  # [H, L, 2^K]
            walked += int(sizes.gather(2, codes[request]).sum()) * 2
    offsets = B * H * L * probes * 8 * max(len(segments) for segments in arguments["tables"])
    return offsets + walked + written


CONTRACT = OpContract(
    name="retrieve",
    formula="""ids[b*H + h] = { i : #{l : code of key i in table l is one of query_codes[b, h, l]} >= min_hits }

    The sample S of MagicPIG (arXiv 2410.16179), section 4.2; `min_hits` is 2 in the paper. The probed codes
    of one table must be distinct. Head h reads key/value head h // (H / Hkv). Ids are rows of the store, in
    any order; count[b*H + h] says how many there are. The rest of a row of `ids` is undefined. Tables on a GPU, where
    saying what is wrong would mean waiting, leave out codes, offsets and ids that cannot be.
    """,
    tensors={
        "query_codes": TensorSpec("B H L P", ("uint16",)),
        "ids": TensorSpec("B*H capacity", ("int32",), output=True),
        "count": TensorSpec("B*H", ("int32",), output=True),
    },
    arguments=arguments,
    check=check,
    compare=compare,
    bytes_moved=bytes_moved,
    cases=(
        Case("one_key", {"B": 1, "H": 1, "Hkv": 1, "K": 1, "L": 2, "segments": [[1]]}),
        Case("usual", {"B": 1, "H": 8, "Hkv": 2, "K": 5, "L": 30, "segments": [[1000]]}, seed=1),
        Case("groups_of_3", {"B": 2, "H": 9, "Hkv": 3, "K": 4, "L": 11, "segments": [[333], [65]]}, seed=2),
        Case(
            "segments",
            {
                "B": 1,
                "H": 2,
                "Hkv": 2,
                "K": 4,
                "L": 9,
                "segments": [
                    [100, 1, 77],
                ],
                "spare": 9,
            },
            3,
        ),
        Case("min_hits_1", {"B": 1, "H": 2, "Hkv": 1, "K": 6, "L": 5, "segments": [[500]], "min_hits": 1}, 4),
        Case("min_hits_3", {"B": 1, "H": 2, "Hkv": 1, "K": 3, "L": 12, "segments": [[400]], "min_hits": 3}, 5),
        Case("full_bucket", {"B": 1, "H": 4, "Hkv": 4, "K": 8, "L": 3, "segments": [[257]], "distinct": 1}, 6),
        Case("no_index", {"B": 2, "H": 2, "Hkv": 1, "K": 8, "L": 3, "segments": [[], [40]]}, 7),
        Case("K16", {"B": 1, "H": 2, "Hkv": 1, "K": 16, "L": 4, "segments": [[300]], "query_distinct": 4}, 8),
        Case("ball", {"B": 1, "H": 3, "Hkv": 1, "K": 7, "L": 8, "segments": [[600]], "ball": 1}, 9),
        Case("large", {"B": 1, "H": 2, "Hkv": 1, "K": 6, "L": 4, "segments": [[65536, 3000]]}, 10),
    ),
)
