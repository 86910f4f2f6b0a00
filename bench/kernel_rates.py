"""Times the host's kernels at known work, by thread count and instruction set: for a host's calibration.

Calls follow one another as in a decode step, behind a pause as long as a GPU's part of a layer, and each reads another
layer than the last, as many as exceed the caches. As in a step, arguments are checked once, not at every call: on an
H200's host the checks of small samples took as long as the samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from truffle.bench import host_work
from truffle.bench.attend_arguments import sparse_attend
from truffle.bench.contender import turns
from truffle.bench.decode import decode_layer
from truffle.bench.host_work import Work
from truffle.bench.layer_data import LayerData
from truffle.bench.sizes import Sizes
from truffle.bench.spread import Spread
from truffle.bench.timing import layers_beyond_cache, sequence_s
from truffle.kernels import isa, registry
from truffle.kernels.hardware import Frozen
from truffle.kernels.waiting import set_wait_policy
from truffle.model.config import (
    DecodeConfig,
    DenseParameters,
    Execution,
    LshParameters,
    MethodParameters,
    ModelShape,
    Probing,
    ScanParameters,
)
from truffle.model.llama import Decoder
from truffle.model.weights import random_weights

# A layer of Llama 3.1 8B, whose tables and products are those of most models of its kind.
SHAPE = ModelShape(
    layers=1, hidden=4096, intermediate=14336, heads=32, kv_heads=8, head_dim=128, vocabulary=512, rope_theta=5e5
)
CONTEXTS, MOST_BATCH = (16_384, 49_152), 4
TABLES = (LshParameters(), LshParameters(K=8, L=75), LshParameters(K=11, L=300))
SCAN = ScanParameters(budget=0.02)
GPU_PAUSE_S, ROUNDS = 150e-6, 8
NATIVE = "cpu_native"
CHECKED = ("dense_attend",)  # whose arguments a decoder on the CPU checks at every call


class KernelTime(Frozen):
    """One kernel at known work.

    Attributes:
        op: an operation; ``attend_lists`` is sparse_attend of samples that the heads of a group share, ``linear`` a
            product of bfloat16 weights, ``layer_METHOD`` a decoder layer on the CPU with next to nothing to do.
        work: what the call does (host_work).
        wait_policy: what the threads did between calls.
    """

    op: str
    threads: int
    isa: str
    store_format: str
    work: Work
    seconds: Spread
    wait_policy: str = "park"


def measure(threads_list: Sequence[int], seconds: float) -> tuple[KernelTime, ...]:
    """Times of all kernels by ascending thread count with the widest instruction set, and of the smaller cases with
    threads that spin, and with the other sets at the most threads; in about `seconds`, and what making keys and tables
    takes."""
    most, widest = max(threads_list), isa.resolve("auto")
    narrower = [level for level in isa.ISAS if isa.why_not(level) is None and level != widest]
    cases = list(_cases(most))
    each, found = seconds / (len(cases) * len(threads_list)), []
    for small, make in cases:
        time = make()
        found += [made for threads in threads_list for made in time(threads, widest, each)]
        found += [made for level in narrower if small for made in time(most, level, each / 4)]
        found += [made for threads in threads_list if small for made in _spinning(time, threads, widest, each / 4)]
        del time  # one layer's tables at a time
    return tuple(sorted(found, key=lambda made: (made.threads, made.op)))


Timed = Callable[[int, str, float], list[KernelTime]]


def _cases(threads: int) -> Iterator[tuple[bool, Callable[[], Timed]]]:
    """Whether a case is a small one, and what makes its data and gives what times it."""
    for context in CONTEXTS:
        small = context == CONTEXTS[0]
        data = LayerData(Sizes(context, SHAPE.heads, SHAPE.kv_heads, SHAPE.head_dim, TABLES[0].K, TABLES[0].L), threads)
        settings = [(TABLES[0], 1), *([] if small else [(TABLES[0], MOST_BATCH), *((p, 1) for p in TABLES[1:])])]
        yield from ((small, partial(_sampling, data, p, batch)) for p, batch in settings)
        yield from ((small, partial(make, data)) for make in (_eight_bits, _dense))
        yield from ((small, partial(_scanning, data, batch)) for batch in ((1,) if small else (1, MOST_BATCH)))
        if small:
            yield False, partial(_directing, data)
    yield from ((False, partial(_linear, batch)) for batch in (1, MOST_BATCH))
    yield False, _layer


def _spinning(time: Timed, threads: int, level: str, seconds: float) -> list[KernelTime]:
    if threads == 1:  # there is none to wait
        return []
    set_wait_policy("spin")
    try:
        return [made.model_copy(update={"wait_policy": "spin"}) for made in time(threads, level, seconds)]
    finally:
        set_wait_policy("park")


def _sampling(base: LayerData, p: LshParameters, batch: int) -> Timed:
    """Both operations that sample, one after the other, and then the fused one."""
    data, n = base.with_tables(p.K, p.L, p.min_hits, batch, p.probing), base.sizes.context
    layers = [data, *(data.copied() for _ in range(_copies(data.store.rows.nbytes)))]
    apart = {
        "retrieve": host_work.retrieve(SHAPE, p, n, batch),
        "sparse_attend": host_work.attend(SHAPE, p, n, batch, "bfloat16"),
    }
    fused = {"retrieve_attend": apart["retrieve"] | apart["sparse_attend"]}
    timers = [_timer({op: turns(op, layers) for op in work}, work) for work in (apart, fused)]
    return lambda threads, level, seconds: [made for one in timers for made in one(threads, level, seconds / 2)]


def _eight_bits(base: LayerData) -> Timed:
    p = TABLES[0]
    data = base.with_store(torch.int8).with_tables(p.K, p.L, p.min_hits, 1, p.probing)
    layers = [data, *(data.copied() for _ in range(_copies(data.store.rows.nbytes)))]
    work = {"sparse_attend": host_work.attend(SHAPE, p, base.sizes.context, 1, "int8")}
    return _timer({"sparse_attend": turns("sparse_attend", layers)}, work, "int8")


def _scanning(base: LayerData, batch: int) -> Timed:
    first, n = base.with_tables(base.sizes.K, base.sizes.L, 1, batch, base.sizes.probing), base.sizes.context
    layers = [first, *(first.with_store(base.sizes.dtype) for _ in range(_copies(base.store.rows.nbytes)))]
    work = {
        "scan_sample": host_work.scan(SHAPE, SCAN, n, batch),
        "attend_lists": host_work.attend_lists(SHAPE, SCAN, n, batch, "bfloat16"),
    }
    draws = layers_beyond_cache(round(len(layers) * work["attend_lists"]["bytes"]))  # of rows, not of layers alone
    return _timer({"scan_sample": turns("scan_sample", layers), "attend_lists": _lists(layers, draws)}, work)


def _dense(base: LayerData) -> Timed:
    copies = range(_copies(sum(part.nbytes for part in base.keys_and_values)))
    layers = [base, *(base.with_keys_elsewhere() for _ in copies)]
    work = {"dense_attend": host_work.dense(SHAPE, base.sizes.context, 1)}
    return _timer({"dense_attend": turns("dense_attend", layers)}, work)


def _directing(base: LayerData) -> Timed:
    p = LshParameters(K=10, L=60, probing=Probing(kind="directed", amount=8))
    data = base.with_tables(p.K, p.L, p.min_hits, 1, p.probing)
    work = {"direct_probes": host_work.direct(SHAPE, p, 1)}
    return _timer({"direct_probes": turns("direct_probes", [data])}, work)


def _copies(size_bytes: int) -> int:
    """Beside a layer, as many as one has to walk through for the first to be out of the caches again."""
    return layers_beyond_cache(size_bytes) - 1


def _timer(arguments: dict[str, list[dict[str, Any]]], work: dict[str, Work], store_format: str = "bfloat16") -> Timed:
    """Times operations that follow one another, each on the next of its arguments."""

    def time(threads: int, level: str, seconds: float) -> list[KernelTime]:
        calls = {op: _call(op, found, threads, level) for op, found in arguments.items()}
        how = {"threads": threads, "isa": level, "store_format": store_format}
        samples = sequence_s(calls, GPU_PAUSE_S, seconds, ROUNDS)
        return [KernelTime(op=op, work=work[op], seconds=Spread.of(taken), **how) for op, taken in samples.items()]

    return time


def _call(op: str, arguments: list[dict[str, Any]], threads: int, level: str) -> Callable[[], None]:
    implementation = registry.get("sparse_attend" if op == "attend_lists" else op, NATIVE)
    how, found = {"threads": threads, "isa": level}, itertools.cycle(arguments)
    implementation(**arguments[0], **how)
    run = implementation if op in CHECKED else implementation.function
    return lambda: run(**next(found), **how)


def _lists(layers: list[LayerData], draws: int) -> list[dict[str, Any]]:
    """Samples of as many rows as are expected of the scan's budget, anywhere, of each key/value head."""
    sizes, generator = layers[0].sizes, torch.Generator().manual_seed(0)
    shape = sizes.batch * sizes.kv_heads, round(max(SCAN.expected(sizes.context)))
    constant = {"count": torch.full(shape[:1], shape[1], dtype=torch.int32), "log_weight": torch.zeros(shape)}
    first = sparse_attend(layers[0], 0, constant | {"ids": None}) | constant | {"center": None, "law": None}
    ids = (torch.randint(sizes.context, shape, dtype=torch.int32, generator=generator) for _ in itertools.count())
    return [first | {"stores": [layer.store] * sizes.batch, "ids": next(ids)} for _ in range(draws) for layer in layers]


def _linear(batch: int) -> Timed:
    """A layer's widest product."""
    rows, columns = SHAPE.intermediate, SHAPE.hidden
    count = layers_beyond_cache(2 * rows * columns)
    weights = [torch.full((rows, columns), 0.01, dtype=torch.bfloat16) for _ in range(count)]
    x = torch.full((batch, columns), 0.01, dtype=torch.bfloat16)
    work = host_work.linear(rows * columns, batch)

    def time(threads: int, level: str, seconds: float) -> list[KernelTime]:
        if level != isa.resolve("auto"):  # torch chooses its own
            return []
        turns = itertools.cycle(weights)
        torch.set_num_threads(threads)
        taken = sequence_s({"linear": lambda: F.linear(x, next(turns))}, 0.0, seconds, ROUNDS)["linear"]
        return [KernelTime(op="linear", threads=threads, isa=level, store_format="bfloat16", work=work,
                           seconds=Spread.of(taken))]  # fmt: skip

    return time


def _layer() -> Timed:
    """What a layer on the CPU takes for being called, hashing of queries included."""
    methods: tuple[MethodParameters, ...] = (
        DenseParameters(), LshParameters(dense_layers=()), ScanParameters(dense_layers=())
    )  # fmt: skip

    def time(threads: int, level: str, seconds: float) -> list[KernelTime]:
        torch.set_num_threads(threads)
        found = []
        for parameters in methods:
            config = DecodeConfig(parameters=parameters, execution=Execution(threads=threads))
            taken = sequence_s({"layer": _idle_layer(config)}, 0.0, seconds / len(methods), ROUNDS)["layer"]
            found.append(KernelTime(op=f"layer_{config.method}", threads=threads, isa=level, store_format="bfloat16",
                                    work={}, seconds=Spread.of(taken)))  # fmt: skip
        return found

    return time


def _idle_layer(config: DecodeConfig) -> Callable[[], None]:
    shape = SHAPE.model_copy(update={"hidden": 256, "intermediate": 256})
    decoder = Decoder(shape, random_weights(shape, 0, "cpu", torch.bfloat16), config)
    keys = torch.zeros(shape.kv_heads, 64, shape.head_dim, dtype=torch.bfloat16)
    decoder.adopt([[keys]], [[keys]])
    states, turn = torch.zeros(1, shape.hidden, dtype=torch.bfloat16), decoder.turn(torch.tensor([64]))

    @torch.inference_mode()
    def step() -> None:
        decode_layer(decoder, 0, states, turn)

    return step
