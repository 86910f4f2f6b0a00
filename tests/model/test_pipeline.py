"""The decode pipeline: the same logits as one layer after the other, whatever comes and goes between its steps."""

from __future__ import annotations

import dataclasses
import gc

import pytest
import torch
import torch.nn.functional as F

from tests.model.tiny import SHAPE
from truffle.model import pipeline
from truffle.model.config import (
    DecodeConfig,
    DenseParameters,
    LshParameters,
    ModelShape,
    Probing,
    StreamingParameters,
)
from truffle.model.graphs import EagerScript
from truffle.model.llama import Decoder
from truffle.model.weights import Weights, random_weights

WEIGHTS = random_weights(SHAPE, seed=3)
SMALL = {"sink": 2, "window": 8, "dense_layers": (0,)}
LSH = LshParameters(K=3, L=12, seal_tokens=8, **SMALL)
WIDE = ModelShape(layers=4, hidden=256, intermediate=512, heads=8, kv_heads=2, head_dim=64, vocabulary=301)


def probing(name: str) -> LshParameters:
    return LSH.model_copy(update={"probing": Probing.named(name)})


CONFIGS = {
    "dense": DecodeConfig(parameters=DenseParameters()),
    "streaming": DecodeConfig(parameters=StreamingParameters(**SMALL)),
    "sampled": DecodeConfig(parameters=LSH),
    "fused": DecodeConfig(parameters=LSH, implementations={"retrieve_attend": "auto"}),
    "fused ball": DecodeConfig(parameters=probing("ball 1"), implementations={"retrieve_attend": "auto"}),
    "directed": DecodeConfig(parameters=probing("directed 3")),
    "fused directed": DecodeConfig(parameters=probing("directed 3"), implementations={"retrieve_attend": "auto"}),
}


def executed(config: DecodeConfig, **changes) -> DecodeConfig:
    execution = config.execution.model_copy(update={"store_format": "float32"} | changes)
    return config.model_copy(update={"execution": execution})


def tokens(count: int, seed: int, vocabulary: int = SHAPE.vocabulary) -> torch.Tensor:
    return torch.randint(0, vocabulary, (count,), generator=torch.Generator().manual_seed(seed))


class Plain(Decoder):
    """Steps as one would write them: every layer after the one before, at once."""

    @torch.inference_mode()
    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        states = F.embedding(tokens, self.weights.embedding)
        turn = self.turn(torch.tensor(self.lengths))
        for layer, cache in zip(self.weights.layers, self.caches, strict=True):
            out = cache.decode(*self.project(layer, states, turn))
            self.finish(layer, states, out)
        self.lengths = [length + 1 for length in self.lengths]
        return self.logits(states)


def decode_life(
    decoder: Decoder, batch: int, steps: int = 12, vocabulary: int = SHAPE.vocabulary
) -> list[torch.Tensor]:
    """Logits through seals, a keep and an admit."""
    vocabulary = decoder.shape.vocabulary
    prompts = [tokens(n, n, vocabulary) for n in (60, 5, 33, 90)[:batch]]
    found = [decoder.prefill(prompts)]

    def go() -> None:
        for step in range(steps):
            found.append(decoder.step(tokens(len(decoder.lengths), step, vocabulary).to(decoder.weights.device)))

    go()
    if batch > 2:
        decoder.keep([2, 0])
        go()
    found.append(decoder.admit([tokens(41, 7, vocabulary)]))
    go()
    return [logits.cpu() for logits in found]


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_steps_equal_one_layer_after_the_other(config, batch, micro_batches):
    got = decode_life(Decoder(SHAPE, WEIGHTS, executed(config, micro_batches=micro_batches)), batch)
    want = decode_life(Plain(SHAPE, WEIGHTS, executed(config)), batch)
    for ours, plain in zip(got, want, strict=True):
        # One lane computes the same numbers; products of fewer rows may be summed in another order.
        torch.testing.assert_close(ours, plain, atol=0 if micro_batches == 1 else 2e-5, rtol=0)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_what_is_run_before_a_capture_has_not_happened(config, monkeypatch):
    captured = []

    def capture(program):
        captured.append(program)
        return EagerScript(program)

    want = decode_life(Decoder(SHAPE, WEIGHTS, executed(config)), 3)
    real = pipeline.Pipeline.__init__

    def warmed(self, decoder):
        real(self, decoder)
        self._capture()

    monkeypatch.setattr(pipeline, "CapturedScript", capture)
    monkeypatch.setattr(pipeline, "rehearse", lambda program: [None for _ in program()])
    monkeypatch.setattr(pipeline.Pipeline, "__init__", warmed)
    got = decode_life(Decoder(SHAPE, WEIGHTS, executed(config)), 3)
    assert len(captured) == 3, "once for each set of requests, seals or not"
    for ours, plain in zip(got, want, strict=True):
        assert torch.equal(ours, plain)


def test_capture_is_renewed_when_exact_layers_outgrow_their_slots():
    decoder = Decoder(SHAPE, WEIGHTS, executed(CONFIGS["sampled"]))
    decoder.prefill([tokens(10, 0)])
    pipelines = []
    for step in range(300):
        decoder.step(tokens(1, step))
        if decoder.pipeline not in pipelines:
            pipelines.append(decoder.pipeline)
    assert len(pipelines) == 2


def test_two_lanes_take_turns(monkeypatch):
    """The host answers for one half while the other half's work is on the device."""
    seen = []
    decoder = Decoder(SHAPE, WEIGHTS, executed(CONFIGS["fused"], micro_batches=2))
    decoder.prefill([tokens(60, 0), tokens(60, 1), tokens(60, 2)])
    decoder.step(tokens(3, 0))
    assert [list(lane.requests) for lane in decoder.pipeline.lanes] == [[0], [1, 2]]
    for number, lane in enumerate(decoder.pipeline.lanes):
        for index, exchange in lane.exchanges.items():
            for act in ("ask", "answer"):
                real = getattr(exchange, act)
                note = (act, number, index)
                monkeypatch.setattr(exchange, act, lambda *a, real=real, note=note: (seen.append(note), real(*a))[1])
    decoder.step(tokens(3, 1))
    first, second = sorted(decoder.pipeline.lanes[0].exchanges)
    assert seen == [
        ("ask", 0, first), ("ask", 1, first),
        ("answer", 0, first), ("ask", 0, second),
        ("answer", 1, first), ("ask", 1, second),
        ("answer", 0, second), ("answer", 1, second),
    ]  # fmt: skip


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_an_observer_sees_every_layer_and_changes_nothing(micro_batches):
    config = executed(CONFIGS["fused"], micro_batches=micro_batches)
    quiet, watched = Decoder(SHAPE, WEIGHTS, config), Decoder(SHAPE, WEIGHTS, config)
    seen = []
    for decoder in (quiet, watched):
        decoder.prefill([tokens(60, 0), tokens(20, 1)])
    for step in range(4):
        watched.observer = (lambda index, cache, *parts: seen.append(index)) if step in (1, 2) else None
        got, want = watched.step(tokens(2, step)), quiet.step(tokens(2, step))
        # Watched, all requests are one lane; products of fewer rows may be summed in another order.
        torch.testing.assert_close(got, want, atol=0 if micro_batches == 1 else 2e-5, rtol=0)
    assert seen == [*range(SHAPE.layers)] * 2, "a whole layer once, whatever the lanes"


def certain(config: DecodeConfig) -> DecodeConfig:
    """Tables so many that nearly every key is sampled: what is sampled depends little on the rounding of a bit."""
    p = config.parameters
    if isinstance(p, LshParameters):
        kept = p.probing if p.probing.kind == "directed" else Probing()
        p = p.model_copy(update={"K": 2, "L": 60, "probing": kept})
    return config.model_copy(update={"parameters": p})


def on_cuda(weights: Weights, dtype: torch.dtype) -> Weights:
    layers = tuple(
        dataclasses.replace(layer, **{name: tensor.to("cuda", dtype) for name, tensor in vars(layer).items()})
        for layer in weights.layers
    )
    embedding, norm, head = (part.to("cuda", dtype) for part in (weights.embedding, weights.norm, weights.head))
    return Weights(embedding, layers, norm, head)


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 5e-3), (torch.bfloat16, 0.03)], ids=str)
@pytest.mark.parametrize(("batch", "micro_batches"), [(1, 1), (4, 1), (4, 2)])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_captured_steps_agree_with_the_cpu(config, batch, micro_batches, dtype, error):
    """Relative RMS of all logits. In bfloat16, weights are rounded on both sides and activations on one; a bit that
    differs on the two sides samples other keys, which a step forgets."""
    weights = random_weights(WIDE, seed=3)
    here = on_cuda(weights, dtype)
    rounded = Weights(
        here.embedding.cpu().float(),
        tuple(dataclasses.replace(part, **{n: t.cpu().float() for n, t in vars(part).items()}) for part in here.layers),
        here.norm.cpu().float(), here.head.cpu().float(),
    )  # fmt: skip
    everything = certain(config)
    got = decode_life(Decoder(WIDE, here, executed(everything, micro_batches=micro_batches)), batch, 20)
    want = decode_life(Decoder(WIDE, rounded, executed(everything)), batch, 20)
    got, want = (torch.cat([part.flatten() for part in side]) for side in (got, want))
    assert (got - want).norm() / want.norm() < error


@pytest.mark.gpu
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_captured_steps_equal_eager_ones(micro_batches):
    """The same kernels on the same device: an observer only makes the steps eager."""
    config = executed(certain(CONFIGS["fused"]), micro_batches=micro_batches)
    weights = on_cuda(random_weights(WIDE, seed=3), torch.bfloat16)
    captured, eager = Decoder(WIDE, weights, config), Decoder(WIDE, weights, config)
    eager.observer = lambda *seen: None
    for ours, theirs in zip(*(decode_life(one, 4, 20) for one in (captured, eager)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_steps_allocate_nothing_that_stays(micro_batches):
    config = executed(CONFIGS["fused"], micro_batches=micro_batches)
    decoder = Decoder(WIDE, on_cuda(random_weights(WIDE, seed=3), torch.bfloat16), config)
    decoder.prefill([tokens(60, 0), tokens(33, 1)])
    for step in range(20):
        decoder.step(tokens(2, step))
    gc.collect()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for step in range(100):
        decoder.step(tokens(2, step))
    torch.cuda.synchronize()
    assert (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) == before
