"""One decode step of a small seeded model on calibrated keys, with every method: `make bench`."""

from __future__ import annotations

import pytest

from truffle.bench import suite
from truffle.bench.contender import resolve
from truffle.bench.decode_facts import decode_facts
from truffle.bench.op_command import host_rates
from truffle.model.config import METHODS, SelectingParameters

STEPS, REFERENCE_STEPS = 40, 5  # a step lengthens the context, so their number is fixed


@pytest.mark.benchmark(group="decode step")
@pytest.mark.parametrize("method", METHODS)
def test_decode_step(method, threads, torch_threads, benchmark, described, told):
    described |= decode_facts(method, threads)
    made = suite.decoder(method, threads)
    described |= {"config": made.config.model_dump(mode="json"), "implementations": made.ops.names}
    described |= {"isa": resolve("auto"), "shape": suite.SHAPE.model_dump(mode="json"), "context": suite.CONTEXT}
    slow = isinstance(made.config.parameters, SelectingParameters)
    rounds = REFERENCE_STEPS if slow else STEPS
    benchmark.pedantic(suite.next_logits, args=(made,), rounds=rounds, warmup_rounds=3)
    told(host_rates(threads).read_bytes_per_s.p50)
    if benchmark.stats:
        described["tokens_per_s"] = 1.0 / benchmark.stats["median"]
