"""Dense layers that fill what is left of the card: how many, what a step with them takes, and what is said of them."""

from __future__ import annotations

from types import SimpleNamespace

import optuna
import pytest
import torch

from tests.autotune.fakes import record, space
from truffle.autotune import evaluate, host_choices, overlap, scan_space
from truffle.autotune.answer import decide
from truffle.autotune.baselines import Baseline
from truffle.autotune.evaluate import AccuracyMeter, accuracy_key
from truffle.autotune.filling import default_tables, filled_layers, read, with_layers
from truffle.autotune.measuring import ACCURACY_FIGURES
from truffle.autotune.memory import does_not_fit, memory
from truffle.autotune.outputs import study_record, tuned_config
from truffle.autotune.record import describe
from truffle.autotune.whole_layers import WholeLayers
from truffle.bench.accuracy import Setting
from truffle.bench.vram import static_bytes
from truffle.model.config import DecodeConfig, Execution, LshParameters, ScanParameters
from truffle.model.shapes import SHAPES
from truffle.model.tuned import Study

LLAMA, SMALL, CONTEXT, GIB = SHAPES["llama-3.1-8b"], SHAPES["llama-3.2-1b"], 98_304, 2**30
EXACT = Baseline("all on the GPU", True, None, batch_size=2, tokens_per_s=10.0)
MORE = (*range(14), 16)  # the method's own, 0 and 16, and the first of the others
TEXT = ",".join(map(str, MORE))
FIGURES = dict.fromkeys(("top1", "perplexity_ratio", "output_error", "density", "rows"), 0.5)


def filled(**changes) -> DecodeConfig:
    return DecodeConfig(parameters=LshParameters(dense_layers=MORE, **changes))


def test_as_many_layers_as_fit_and_not_one_more():
    target = space().target
    weights, dense, sampled = 2 * 8_030_261_248, CONTEXT * 4096, (4 + 64 + 1024) * 4096
    held, building = [weights + count * dense + (32 - count) * sampled for count in (15, 16)], 3 * dense
    assert held[0] <= target.usable_gpu_bytes - building < held[1]
    assert filled_layers(LLAMA, default_tables(1), CONTEXT, target.usable_gpu_bytes) == MORE
    found = memory(LLAMA, filled(), CONTEXT, has_gpu=True)
    assert found.gpu_bytes == held[0]
    assert does_not_fit(found, target) is None
    own = memory(LLAMA, DecodeConfig(parameters=LshParameters()), CONTEXT, has_gpu=True)
    assert 30 * found.host_bytes == 17 * own.host_bytes


@pytest.mark.parametrize(
    ("shape", "batch", "room_gib", "count"),
    [
        (LLAMA, 2, 21.8, 7),
        (LLAMA, 5, 21.8, None),  # no room for one more
        (LLAMA, 1, 0, None),  # no card
        (LLAMA, 1, 28.2, None),  # room for all of them: exact attention
        (LLAMA, 1, 28, 31),
        (SMALL, 1, 8, None),  # all of 16 layers, of which the method's own 16 is none
        (SMALL, 8, 3, 3),
    ],
)
def test_a_choice_there_is_only_where_some_more_fit_and_not_all(shape, batch, room_gib, count):
    context = CONTEXT if shape is LLAMA else 8192
    found = filled_layers(shape, default_tables(batch), context, int(room_gib * GIB))
    assert found is None if count is None else len(found) == count
    assert found is None or max(found) < shape.layers


def test_a_scan_leaves_less_of_the_card_for_its_codes_and_is_asked_whether_to_fill_it(monkeypatch):
    host_choices.kernels(scan_space.OPS)  # those of the host, before a card's are said to run
    monkeypatch.setattr("truffle.autotune.scan_space.registry.why_not", lambda op, name: None)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    there = space(gpu="h200", vram_limit_gib=24, present=True, methods=("scan",))
    room, layers = there.target.usable_gpu_bytes - 3 * CONTEXT * 4096, {}
    for trial in [study.ask() for _ in range(300)]:
        config, asked = there.suggest(trial), trial.params
        found, plain = config.parameters, asked["dense_layers"] == "0,16"
        if not asked.get("fill_vram"):
            assert found.dense_layers == read(asked["dense_layers"])
            assert not plain or asked["codes"] == "gpu" or "fill_vram" in asked or there.filling_beside(config) is None
            continue
        assert plain
        assert asked["codes"] != "gpu"
        assert len(found.dense_layers) > 2
        more = with_layers(found, tuple(sorted({*found.dense_layers, min({*range(32)} - {*found.dense_layers})})))
        held = [static_bytes(LLAMA, config.model_copy(update={"parameters": p}), CONTEXT) for p in (found, more)]
        assert held[0] <= room < held[1]
        if config.execution.batch_size == 1:
            layers.setdefault(asked["codes"], set()).add(len(found.dense_layers))
    assert max(layers["device"]) < min(layers["host"]), "codes take the place of layers"
    assert layers["link"] & layers["device"], "rows are on the host either way"
    origins = [(origin, there.config(point).parameters.dense_layers) for origin, point in there.first_points()]
    assert origins == [("method", (0, 16)), ("search", (*range(11), 16))]


def test_a_host_with_less_to_hold_takes_larger_batches(monkeypatch):
    there = space(memory_gib=13)
    most = there.most_batch
    assert there.filling(most)
    monkeypatch.setattr("truffle.autotune.space.filled_layers", lambda *_: None)
    assert space(memory_gib=13).most_batch < most


def test_a_filled_step_attends_more_on_the_card_and_asks_the_host_less():
    gpu = space().target.gpu
    own, more = (
        overlap.step_time(LLAMA, config, CONTEXT, gpu, 1e-4, 5e-4)
        for config in (DecodeConfig(parameters=LshParameters()), filled())
    )
    assert (more.cpu_retrieve, more.cpu_attend) == pytest.approx((17e-4, 85e-4))
    exact = 13 * (CONTEXT - 580) * 4096 / (1.008e12 * 0.8)
    assert more.gpu_attend - own.gpu_attend == pytest.approx(exact)
    assert 30 * more.hidden == pytest.approx(17 * own.hidden)
    assert more.weights == pytest.approx(own.weights)
    assert more.total < own.total - 13 * 50e-6, "600 us of the host's against some 500 of a 4090's"


def test_whole_steps_run_with_them(monkeypatch):
    there, ran = space(gpu="h200", vram_limit_gib=24, present=True), []

    def run(workload, config, *_, **kept):
        ran.append(config)
        names = ("tokens_per_s", "tokens_per_s_low", "tokens_per_s_high", "median_us", "density")
        return dict.fromkeys(names, 1.0), []

    monkeypatch.setattr("truffle.autotune.whole_layers.whole_step.time_steps", run)
    monkeypatch.setattr("truffle.autotune.whole_layers.synthetic.material", lambda *_: ())
    monkeypatch.setattr("truffle.autotune.whole_layers.limit_vram", lambda limit, needed: limit)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (100 * GIB, 100 * GIB))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    layers = WholeLayers(there.workload, there.target)
    layers.run(there.config_of(record(0, 0.01, 20.0, dense_layers=there.filling(1))))
    assert ran[0].parameters.dense_layers == MORE
    with pytest.raises(RuntimeError, match=r"of the GPU's usable 23.4 GB"):
        layers.run(there.config_of(record(0, 0.01, 20.0, dense_layers=TEXT + ",14,15,17,18")))


def test_accuracy_is_measured_with_the_methods_own_layers_at_most(monkeypatch):
    seen, figures = [], dict.fromkeys(ACCURACY_FIGURES, 0.5)
    for part in ("replay", "decode"):
        monkeypatch.setattr(evaluate.accuracy, part, lambda model, run, config, *_: seen.append(config) or [figures])
    monkeypatch.setattr(evaluate.accuracy, "summarise", lambda steps: figures)
    meter = AccuracyMeter("smollm2", Setting(4096, 1, 2), torch.get_num_threads(), (), lambda text: None)
    meter._model, meter._runs = SimpleNamespace(shape=SMALL), [object()]
    for config in (filled(), DecodeConfig(parameters=LshParameters(dense_layers=(0,)))):
        meter.statistics(config), meter.output_error(config), meter.kl(config)
    assert [config.parameters.dense_layers for config in seen] == [(0, 16)] * 3 + [(0,)] * 3
    assert accuracy_key(filled()) == accuracy_key(DecodeConfig(parameters=LshParameters()))
    scans = [DecodeConfig(parameters=ScanParameters(dense_layers=layers)) for layers in (MORE, (0, 16), (0,))]
    assert accuracy_key(scans[0]) == accuracy_key(scans[1]) != accuracy_key(scans[2])
    one_more = DecodeConfig(parameters=LshParameters(dense_layers=(0, 1)))  # of a model without a layer 16
    assert accuracy_key(one_more) == accuracy_key(filled())


def test_record_answer_study_and_tuned_file_say_which_layers_are_dense():
    there = space()
    settings = describe(there.config_of(record(0, 0.01, 20.0, dense_layers=TEXT)))
    assert (settings["dense_layers"], settings["label"]) == (TEXT, "lsh (10, 150), 15 dense layers")
    scan = DecodeConfig(parameters=ScanParameters(dense_layers=MORE), execution=Execution(codes="host"))
    assert describe(scan)["label"] == "scan, 15 dense layers, codes on the host"
    points = [record(0, 0.01, 20.0, origin="default", dense_layers="0,16", **FIGURES),
              record(1, 0.01, 30.0, dense_layers=TEXT, **FIGURES)]  # fmt: skip
    answer = decide(points, EXACT, 0.02)
    assert any(sentence.endswith(f"filled with dense layers: {TEXT}.") for sentence in answer.detail)
    summary = Study(trials=2, failed=0, seconds=1.0, stop_reason="trials", complete=True)
    tuned = tuned_config(answer, EXACT, points, there, "smollm2", summary)
    assert tuned.config.parameters.dense_layers == MORE
    assert tuned.evidence.accuracy["kl"].measured_on == "smollm2, dense layers 0,16 only"
    notes = study_record(answer, [EXACT], points, there.target, there.workload)["answer"]["detail"]
    assert any("accuracy was measured with layers 0,16 dense alone" in note for note in notes)


@pytest.mark.parametrize("layers", ["0,16", "0", ""])
def test_nothing_is_said_where_nothing_is_filled(layers):
    there, points = space(), [record(0, 0.01, 20.0, origin="default", dense_layers=layers, **FIGURES)]
    answer = decide(points, EXACT, 0.02)
    detail = study_record(answer, [EXACT], points, there.target, there.workload)["answer"]["detail"]
    assert not any("dense layers" in sentence or "dense alone" in sentence for sentence in detail)
