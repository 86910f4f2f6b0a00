"""Bad arguments get one line from every CPU implementation: the argument, what was expected, what came."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch

from truffle.kernels import registry
from truffle.kernels.checks import ArgumentError
from truffle.kernels.store import Segment, Store

USABLE = [
    (op, name)
    for op in registry.ops()
    for name in ("reference", "cpu_numba", "cpu_native")
    if name in registry.names(op) and registry.why_not(op, name) is None
]
TENSORS = [(op, name, tensor) for op, name in USABLE for tensor in registry.contract(op).tensors]


MAY_BE_LONGER = ("capacity", "P")  # room to spare, more probes


def arguments_of(op: str) -> dict:
    """Of the first case that has every optional tensor that it can have, and more than one request."""
    contract = registry.contract(op)
    return contract.arguments(contract.cases[2 if op in ("sparse_attend", "merge_states") else 1])


def refusal(op: str, name: str, arguments: dict, **options) -> str:
    with pytest.raises(ArgumentError) as caught:
        registry.get(op, name)(**arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "expected" in message
    assert "got" in message
    return message


def strided(tensor: torch.Tensor) -> torch.Tensor:
    return torch.stack([tensor, tensor], -1)[..., 0]


@pytest.mark.parametrize(("op", "name", "tensor"), TENSORS)
def test_every_tensor_argument(op, name, tensor):
    arguments = arguments_of(op)
    good = arguments[tensor]
    if good is None:
        pytest.skip("the case goes without it")
    wrong = [
        (good.to(torch.float64), "dtype"),
        (strided(good), "contiguous"),
        (good[None], "shape"),
        (good.tolist(), "a torch.Tensor"),
    ]
    for bad, what in wrong:
        message = refusal(op, name, arguments | {tensor: bad})
        assert message.startswith(f"{tensor}: expected")
        assert what in message
    for axis, symbol in enumerate(registry.contract(op).tensors[tensor].symbols):
        if symbol not in MAY_BE_LONGER:
            refusal(op, name, arguments | {tensor: torch.cat([good, good], dim=axis)})


@pytest.mark.parametrize(("op", "name"), USABLE)
def test_tensors_elsewhere(op, name):
    if registry.get(op, name).needs.device == "any":
        pytest.skip("runs anywhere")
    for tensor in registry.contract(op).tensors:
        arguments = arguments_of(op)
        if arguments[tensor] is not None:
            message = refusal(op, name, arguments | {tensor: arguments[tensor].to("meta")})
            assert message.startswith(f"{tensor}: expected a CPU tensor"), message


@pytest.mark.parametrize(("op", "name"), USABLE)
@pytest.mark.parametrize("threads", [0, -3, True, "2", 1.5, None])
def test_threads_that_are_no_count(op, name, threads):
    message = refusal(op, name, arguments_of(op), threads=threads)
    assert message == f"threads: expected an integer of at least 1, got {threads!r}"


SEGMENTS = {
    "offsets as int64": (lambda s: replace(s, offsets=s.offsets.long()), "offsets: expected dtype int32"),
    "ids as int32": (lambda s: replace(s, ids=s.ids.int()), "ids: expected dtype uint16"),
    "strided offsets": (lambda s: replace(s, offsets=strided(s.offsets)), "offsets: expected a contiguous"),
    "strided ids": (lambda s: replace(s, ids=strided(s.ids)), "ids: expected a contiguous"),
    "offsets of one table": (lambda s: replace(s, offsets=s.offsets[:, 0]), "offsets: expected shape"),
    "ids of one head": (lambda s: replace(s, ids=s.ids[:1].contiguous()), "ids: expected shape"),
    "one offset too few": (lambda s: replace(s, offsets=s.offsets[..., 1:].contiguous()), "2^K + 1 offsets"),
    "a list": (lambda s: replace(s, ids=s.ids.tolist()), "ids: expected a torch.Tensor"),
    "negative start": (lambda s: replace(s, start=-1), "a start"),
    "start beyond 32 bits": (lambda s: replace(s, start=2**31 - 5), "a start"),
    "offsets from 1": (lambda s: replace(s, offsets=s.offsets + 1), "ascending offsets from 0 to 1000"),
    "ids missing": (lambda s: replace(s, ids=s.ids[..., :-1].contiguous()), "ascending offsets from 0 to 999"),
    "elsewhere": (lambda s: replace(s, ids=s.ids.to("meta")), "expected device cpu"),
    "no heads": (lambda s: Segment(0, s.offsets[:0], s.ids[:0]), "one key/value head at least"),
    "no tables": (lambda s: Segment(0, s.offsets[:, :0].contiguous(), s.ids[:, :0].contiguous()), "one table"),
    "other tables": (
        lambda s: Segment(0, s.offsets[:, :7].contiguous(), s.ids[:, :7].contiguous()),
        "expected L = 30 tables",
    ),
}
RETRIEVERS = [name for op, name in USABLE if op == "retrieve"]


@pytest.mark.parametrize("name", RETRIEVERS)
@pytest.mark.parametrize("what", SEGMENTS)
def test_segments(name, what):
    spoil, expected = SEGMENTS[what]
    arguments = arguments_of("retrieve")
    message = refusal("retrieve", name, arguments | {"tables": [[spoil(arguments["tables"][0][0])]]})
    assert message.startswith("tables[0][0]: ")
    assert expected in message


@pytest.mark.parametrize("name", RETRIEVERS)
def test_overlapping_and_unordered_segments(name):
    arguments = arguments_of("retrieve")
    segment = arguments["tables"][0][0]
    arguments["ids"] = torch.empty(8, 3000, dtype=torch.int32)
    for start in (0, 999):
        tables = [[segment, replace(segment, start=start)]]
        assert "tables[0][1]: expected a start from 1000" in refusal("retrieve", name, arguments | {"tables": tables})
    later = [[replace(segment, start=1500), segment]]
    assert "tables[0][1]: expected a start from 2500" in refusal("retrieve", name, arguments | {"tables": later})


@pytest.mark.parametrize("name", [name for name in RETRIEVERS if name != "reference"])
def test_descending_offsets_and_corrupt_ids_behind_good_ends(name):
    arguments = arguments_of("retrieve")
    segment = arguments["tables"][0][0]
    segment.offsets[..., 1:-1] = segment.offsets[..., 1:-1].flip(-1)
    assert_raises_one_line(name, arguments, "ascending offsets|offsets rising")
    arguments = arguments_of("retrieve")
    arguments["tables"][0][0].ids.view(torch.int16).bitwise_or_(-1024)
    assert_raises_one_line(name, arguments, "tables: expected ids below")


def assert_raises_one_line(name: str, arguments: dict, match: str) -> None:
    with pytest.raises((ValueError, IndexError), match=match) as caught:
        registry.get("retrieve", name)(**arguments)
    assert "\n" not in str(caught.value)


STORES = {
    "float64": (lambda s: replace(s, rows=s.rows.double()), "rows: expected dtype bfloat16 or float32 or int8"),
    "strided": (lambda s: replace(s, rows=strided(s.rows)), "rows: expected a contiguous"),
    "no heads": (lambda s: replace(s, rows=s.rows[0]), "rows: expected shape"),
    "narrow": (lambda s: replace(s, rows=s.rows[..., :-8].contiguous()), "rows of 256 elements for head_dim 128"),
    "too long": (lambda s: replace(s, length=10**6), "a length of 0 to 153"),
    "negative": (lambda s: replace(s, length=-1), "a length of 0 to 153"),
    "odd": (lambda s: replace(s, head_dim=127), "an even head_dim"),
    "other head_dim": (lambda s: Store.allocate(2, 5, 64), "expected head_dim 128"),
    "other heads": (lambda s: Store.allocate(8, 5, 128), "expected 2 key/value heads"),
    "a list": (lambda s: replace(s, rows=s.rows.tolist()), "rows: expected a torch.Tensor"),
    "elsewhere": (lambda s: replace(s, rows=s.rows.to("meta")), "rows on the CPU"),
}


@pytest.mark.parametrize("name", [name for op, name in USABLE if op == "sparse_attend"])
@pytest.mark.parametrize("what", STORES)
def test_stores(name, what):
    spoil, expected = STORES[what]
    arguments = arguments_of("sparse_attend")
    stores = [spoil(arguments["stores"][0]), arguments["stores"][1]]
    message = refusal("sparse_attend", name, arguments | {"stores": stores})
    assert message.startswith("stores[0]: ")
    assert expected in message


@pytest.mark.parametrize("name", [name for op, name in USABLE if op == "sparse_attend"])
@pytest.mark.parametrize("count", [-1, 151, -(2**31), 2**31 - 1])
def test_counts_outside(name, count):
    arguments = arguments_of("sparse_attend")
    arguments["count"][3] = count
    assert "count: expected 0 to capacity 150" in refusal("sparse_attend", name, arguments)


@pytest.mark.parametrize("name", [name for op, name in USABLE if op == "sparse_attend"])
def test_lists_of_neither_heads_nor_groups(name):
    contract = registry.contract("sparse_attend")
    shared = contract.arguments(next(case for case in contract.cases if case.name == "per_group"))
    lists = {tensor: shared[tensor][:3].contiguous() for tensor in ("ids", "count", "log_weight")}
    assert "ids: expected B times 8 or 2 rows, got 3" in refusal("sparse_attend", name, shared | lists)
    by_law = arguments_of("sparse_attend")
    lists = {tensor: by_law[tensor][:4].contiguous() for tensor in ("ids", "count")}
    assert "ids: expected B times 8 rows, got 4" in refusal("sparse_attend", name, by_law | lists)


@pytest.mark.parametrize("name", ["cpu_numba", "cpu_native"])
@pytest.mark.parametrize("ops", [("retrieve",) * 4, ("sparse_attend",) * 4, ("hash_codes", "build_tables") * 2])
def test_calls_from_several_threads_at_once(name, ops):
    if any((op, name) not in USABLE for op in ops):
        pytest.skip(f"{name} is not usable here")
    problems: list[object] = []

    def work(op: str) -> None:
        try:
            want = arguments_of(op)
            registry.get(op, "reference")(**want)
            for turn in range(8):
                got = arguments_of(op)
                registry.get(op, name)(**got, threads=1 + turn % 3)
                problems.append(registry.contract(op).compare(got, want))
        except BaseException as error:
            problems.append(error)

    workers = [threading.Thread(target=work, args=(op,)) for op in ops]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert problems == [None] * 8 * len(ops)
