"""build_tables: a counting sort of one segment's codes into buckets."""

from __future__ import annotations

import torch

from truffle.kernels.checks import TensorSpec, expect
from truffle.kernels.contract import Arguments, Case, OpContract
from truffle.kernels.planes import MAX_BITS
from truffle.kernels.store import SEGMENT_TOKENS


def arguments(case: Case) -> Arguments:
    s = case.sizes
    R, L, n, K = s["R"], s["L"], s["n"], s["K"]
    generator = torch.Generator().manual_seed(case.seed)
    distinct = s.get("distinct", 1 << K)
    codes = torch.randint(0, distinct, (R, L, n), generator=generator)
    return {
        "codes": codes.to(torch.uint16),
        "offsets": torch.full((R, L, (1 << K) + 1), -1, dtype=torch.int32),
        "ids": torch.full((R, L, n), 0xFFFF, dtype=torch.uint16),
        "K": K,
    }


def check(arguments: Arguments, sizes: dict[str, int]) -> None:
    K, n = arguments["K"], sizes["n"]
    expect(1 <= K <= MAX_BITS, "K", f"1 to {MAX_BITS} bits a table", K)
    expect(n <= SEGMENT_TOKENS, "codes", f"at most {SEGMENT_TOKENS} tokens a segment", n)
    expect(sizes["C"] == (1 << K) + 1, "offsets", f"2^K + 1 = {(1 << K) + 1} entries", sizes["C"])


def compare(got: Arguments, want: Arguments) -> str | None:
    for name in ("offsets", "ids"):
        if not torch.equal(got[name].int(), want[name].int()):
            return f"{name} differ"
    return None


def bytes_moved(arguments: Arguments) -> int:
    return sum(arguments[name].nbytes for name in ("codes", "offsets", "ids"))


CONTRACT = OpContract(
    name="build_tables",
    formula="""ids[r, l] = argsort(codes[r, l]), stable; offsets[r, l, c] = #{i : codes[r, l, i] < c}

    Bucket c of table l is ids[r, l, offsets[r, l, c] : offsets[r, l, c + 1]]. A code of 2^K or more raises ValueError:
    implementations look for one as they count, since a look of its own takes longer than the sort.
    """,
    tensors={
        "codes": TensorSpec("R L n", ("uint16",)),
        "offsets": TensorSpec("R L C", ("int32",), output=True),
        "ids": TensorSpec("R L n", ("uint16",), output=True),
    },
    arguments=arguments,
    check=check,
    compare=compare,
    bytes_moved=bytes_moved,
    cases=(
        Case("one", {"R": 1, "L": 1, "n": 1, "K": 1}),
        Case("usual", {"R": 3, "L": 7, "n": 1000, "K": 8}, seed=1),
        Case("one_full_bucket", {"R": 1, "L": 3, "n": 513, "K": 10, "distinct": 1}, seed=2),
        Case("K16", {"R": 2, "L": 2, "n": 333, "K": 16}, seed=3),
        Case("full_segment", {"R": 1, "L": 1, "n": 65536, "K": 6}, seed=4),
    ),
)
