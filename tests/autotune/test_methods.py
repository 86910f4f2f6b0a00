"""Methods other than lsh in the search: their points, memory, bounds, records and tuned files."""

from __future__ import annotations

import json

import optuna
import pytest
import torch

from tests.autotune.fakes import Bench, record, space
from tests.model.tiny import SHAPE
from truffle.autotune.answer import decide
from truffle.autotune.baselines import Baseline
from truffle.autotune.limits import Limits
from truffle.autotune.memory import memory
from truffle.autotune.method_space import RANGES, default_point, parse_methods, point_parameters
from truffle.autotune.mixed_space import MixedSpace
from truffle.autotune.outputs import study_record, tuned_config
from truffle.autotune.record import TrialRecord, describe
from truffle.autotune.search import Search
from truffle.autotune.space import Space
from truffle.autotune.stopping import Stopping
from truffle.autotune.storage import StudyError, open_study
from truffle.kernels.checks import ArgumentError
from truffle.model import tuned
from truffle.model.config import METHODS, DecodeConfig, Execution
from truffle.model.llama import Decoder
from truffle.model.shapes import SHAPES
from truffle.model.weights import random_weights
from truffle.reports import answer as words
from truffle.reports.record import parse

EVERY, LLAMA, CONTEXT = tuple(METHODS), SHAPES["llama-3.1-8b"], 98_304
OTHERS = tuple(RANGES)
EXACT = Baseline("all on the GPU", True, None, batch_size=2, tokens_per_s=10.0)
SMALL = {"gpu": "none", "workload": "llama-3.2-1b@8k"}


def drawn(there: Space, count: int = 400) -> list[tuple[DecodeConfig, dict]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(count)]
    return [(there.suggest(trial), trial.params) for trial in trials]


def default(method: str) -> DecodeConfig:
    return DecodeConfig(method=method)


def search(folder, there: Space, trials: int, max_kl: float | None = None) -> tuple[Search, Bench]:
    study, bench = open_study(folder, {"methods": list(there.methods)}, seed=1), Bench()
    found = Search(study, there, bench, Limits(max_kl), 0.0, lambda ended: None)
    found.plan()
    assert found.run(Stopping(trials, 60, len(study.trials))) == "trials"
    return found, bench


def test_every_method_has_ranges_of_parameters_that_it_has():
    assert {*RANGES, "lsh"} == {*METHODS}
    for method, ranges in RANGES.items():
        assert set(ranges) <= set(METHODS[method].model_fields)
        assert point_parameters(method, default_point(method), seed=0) == METHODS[method]()


def test_lsh_alone_is_searched_as_it_was():
    now = space()
    before = Space(now.workload, now.target, now.threads, now.seed)
    assert isinstance(now, MixedSpace)
    assert list(now.first_points()) == list(before.first_points())
    assert drawn(now) == drawn(before)
    assert now.most_batch == before.most_batch


def test_every_method_is_drawn_and_asked_only_for_its_own():
    found = drawn(space(methods=EVERY))
    assert {config.method for config, _ in found} == {*EVERY}
    for config, params in found:
        assert params["method"] == config.method
        assert {name.split(".")[0] for name in params if "." in name} <= {config.method}
        assert config.method == "lsh" or not {"on_gpu", "attend_with", "K", "probing"} & set(params)
        assert config.method in ("lsh", "scan") or not {"store_format", "codes", "sink", "fill_vram"} & set(params)
        assert config.method in ("lsh", "scan") or not config.implementations


def test_a_scan_is_tried_with_its_codes_in_each_place(monkeypatch):
    found = drawn(space(methods=("scan",), **SMALL))
    assert {config.execution.codes for config, _ in found} == {"auto"}
    assert {config.execution.store_format for config, _ in found} == {"bfloat16", "int8"}
    assert {config.parameters.dense_layers for config, _ in found} == {(0, 16), (0,), ()}
    monkeypatch.setattr("truffle.autotune.scan_space.registry.why_not", lambda op, name: None)
    there = space(gpu="h200", present=True, methods=("scan",))
    found = drawn(there)
    for config, params in found:
        assert config.resident == (params["codes"] in ("gpu", "link")) == ("threads" not in params)
        assert config.linked == (params["codes"] == "link")
        assert config.scans_beside("cuda") == (params["codes"] == "device")
    assert {params["codes"] for _, params in found} == {"device", "host", "link", "gpu"}


def test_what_guarantees_an_error_is_asked_where_it_can_hold():
    found, seen = drawn(space(methods=("vattention",))), set()
    for config, params in found:
        p, asked = config.parameters, {name.partition(".")[2] for name in params}
        assert ("page_size" in asked) == (p.heavy == "quest")
        assert ({"K", "L", "min_hits"} <= asked) == (p.heavy == "lsh") == ("bound" not in asked)
        assert ("check" in asked) == (p.bound == "clt")
        seen.add((p.heavy, p.bound, p.check))
    assert len(seen) == 3 * 2 + 2 * 2, "two checks of three heavy sets by the limit theorem; two bounds of two"


@pytest.mark.parametrize(
    ("gpu", "present", "asked"), [("none", False, True), ("h200", False, True), ("h200", True, False)]
)
def test_threads_are_asked_of_what_the_cpu_runs(gpu, present, asked):
    references = {*OTHERS} - {"dense", "streaming", "scan"}
    wanted = {*OTHERS} if gpu == "none" else {"scan"} | (references if asked else set())
    found = drawn(space(gpu=gpu, present=present, workload="llama-3.2-1b@8k", methods=OTHERS))
    assert {config.method for config, params in found if "threads" in params} == wanted
    assert all(config.execution.threads == 4 for config, params in found if "threads" not in params)


@pytest.mark.parametrize("options", [SMALL, {"gpu": "h200"}])
def test_every_point_comes_back_from_its_record(options):
    there = space(methods=EVERY, **options)
    for config, _ in drawn(there):
        kept = {"number": 0, "status": "complete", "origin": "search", **describe(config)}
        assert there.config_of(TrialRecord.from_dict(json.loads(json.dumps(kept)))) == config


@pytest.mark.parametrize("methods", [EVERY, ("dense",), ("lsh", "quest"), ("streaming", "vattention")])
def test_planned_points_are_asked_whole(methods):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for gpu in ("4090", "h200", "none"):
        there = space(gpu=gpu, methods=methods)
        origins = [origin for origin, _ in there.first_points()]
        assert origins.count("method") == len({*methods} - {"lsh"})
        assert (origins[0] == "default") == ("lsh" in methods)
        for _, point in there.first_points():
            study.enqueue_trial(point)
            trial = study.ask()
            assert there.suggest(trial) == there.config(point)
            assert set(trial.params) == set(point)


def test_names_are_read_in_one_order_and_unknown_ones_refused():
    assert parse_methods("quest, lsh,quest") == ("lsh", "quest")
    for text, got in (("lsh,quests", "quests"), ("", ""), ("lsh,", "")):
        with pytest.raises(ArgumentError, match=rf"methods: expected some of dense, streaming, .*, got '{got}'"):
            parse_methods(text)


def test_a_search_measures_every_method_and_goes_on_only_with_the_same(tmp_path):
    found, _ = search(tmp_path / "s", space(methods=EVERY, **SMALL), 40)
    done = [r for r in found.judged() if r.status == "complete"]
    assert [r.method for r in done if r.origin == "method"] == list(OTHERS)
    assert {r.method for r in done if r.origin == "search"} > {"lsh"}
    assert len(done) == len({r.config for r in done})
    again, bench = search(tmp_path / "s", space(methods=EVERY, **SMALL), 40)
    assert again.judged() == found.judged()
    assert not bench.asked
    with pytest.raises(StudyError, match=r"made with methods \['dense', .*, expected the same, got \['lsh'\]"):
        search(tmp_path / "s", space(), 41)


def test_without_lsh_a_given_limit_judges(tmp_path):
    found, _ = search(tmp_path / "s", space(methods=("quest",), **SMALL), 4, max_kl=0.03)
    assert {r.method for r in found.judged()} == {"quest"}
    assert all(r.feasible for r in found.judged() if r.status == "complete")


def test_reference_methods_keep_all_keys_where_the_model_is():
    weights, keys = 2 * 8_030_261_248, 32 * CONTEXT * 4096
    for method in ("oracle_topk", "oracle_topp", "oracle_sampling", "uniform", "priority", "vattention", "dense"):
        card, host = (memory(LLAMA, default(method), CONTEXT, has_gpu) for has_gpu in (True, False))
        assert (card.gpu_bytes, card.host_bytes) == (weights + keys, 0)
        assert (host.gpu_bytes, host.host_bytes) == (0, weights + keys)
    streaming = memory(LLAMA, default("streaming"), CONTEXT, has_gpu=True)
    assert streaming.gpu_bytes == weights + (2 * CONTEXT + 30 * 68) * 4096


def test_a_scan_has_its_codes_on_the_card_or_on_the_host():
    weights, dense, tokens = 2 * 8_030_261_248, 2 * CONTEXT * 4096, CONTEXT - 68
    apart = DecodeConfig(method="scan", parameters={"bits": 2}, execution=Execution(codes="host"))
    card, host = (memory(LLAMA, apart, CONTEXT, has_gpu) for has_gpu in (True, False))
    assert card.index_bytes == host.index_bytes == 30 * 8 * -(-tokens // 64) * 64 * (2 * 128 // 8 + 2)
    assert card.host_bytes == 30 * tokens * 4096 + card.index_bytes
    assert card.gpu_bytes == weights + dense + 30 * (68 + 128) * 4096
    assert host.host_bytes == card.gpu_bytes + card.host_bytes
    config = DecodeConfig(method="scan", parameters={"bits": 2})
    there = memory(LLAMA, config, CONTEXT, has_gpu=True)
    assert there.index_bytes == 30 * 8 * -(-(tokens + tokens // 8) // 64) * 64 * (2 * 128 // 8 + 2)
    assert there.gpu_bytes == card.gpu_bytes + there.index_bytes
    assert there.host_bytes == 30 * tokens * 4096
    assert memory(LLAMA, config, CONTEXT, has_gpu=False) == host


def test_a_scan_that_draws_too_much_is_ruled_out():
    there = space(methods=EVERY)
    draws = {share: DecodeConfig(method="scan", parameters={"budget": share, "bits": 1}) for share in (0.01, 1.0)}
    gathered = 8e9 / (30 * 8 * 512 * CONTEXT)  # steps a second that read every row of a group, by one thread
    assert there.ruled_out(draws[0.01], 50 * gathered) is None
    assert there.ruled_out(draws[1.0], 1.1 * gathered).startswith("would sample 100.0%")


def test_what_finds_keys_is_counted_beside_them():
    quest = memory(LLAMA, default("quest"), CONTEXT, has_gpu=True)
    assert quest.index_bytes == 30 * 8 * -(-(CONTEXT - 68) // 16) * 2 * 128 * 4
    heavy = DecodeConfig(method="vattention", parameters={"heavy": "lsh", "L": 100}, execution={"batch_size": 2})
    codes = memory(LLAMA, heavy, CONTEXT, has_gpu=False)
    assert codes.index_bytes == 2 * 30 * 8 * (CONTEXT - 68) * 100 * 2
    assert codes.host_bytes == 2 * 8_030_261_248 + 2 * 32 * CONTEXT * 4096 + codes.index_bytes


def test_the_bytes_counted_are_those_that_a_decoder_keeps():
    config = DecodeConfig(method="quest", parameters={"dense_layers": [], "page_size": 8})
    shape, prompt = SHAPE.model_copy(update={"vocabulary": 64}), torch.arange(200) % 64
    weights = random_weights(shape, seed=0)
    decoder = Decoder(shape, weights, config)
    decoder.prefill([prompt])
    pages = [layer._selectors[0].pages for layer in decoder.caches]
    kept = sum(part.nbytes for page in pages for part in (page.least, page.most))
    assert memory(shape, config, 200, has_gpu=False).index_bytes == kept


def test_what_does_not_fit_or_reads_too_much_is_ruled_out():
    there = space(methods=EVERY)
    for method in ("quest", "dense"):
        assert there.ruled_out(default(method), 0.0).startswith("needs ")
    for gpu, present, rate in (("h200", False, 10e9), ("h200", True, space(gpu="h200").target.gpu)):
        there = space(gpu=gpu, present=present, methods=EVERY)
        rate = rate if isinstance(rate, float) else 4.8e12 * rate.memory_efficiency.value
        most = rate / (30 * CONTEXT * 4096)
        assert there.ruled_out(default("quest"), 0.9 * most) is None
        reason = there.ruled_out(default("quest"), 1.1 * most)
        assert reason.startswith(f"would read every key and value: at most {most:.2g} tokens/s by reading alone")
        assert there.ruled_out(default("streaming"), 1e9) is None


def tuned_file(there: Space, method: str):
    config = there.config({"method": method, **default_point(method), "batch_size": 1, "threads": 0})
    point = record(0, 0.01, 30.0).updated(**describe(config), density=0.05)
    found = decide([point], EXACT, 0.02)
    assert found.trial is point
    summary = tuned.Study(trials=1, failed=0, seconds=1.0, stop_reason="trials", complete=True)
    study = study_record(found, [EXACT], [point], there.target, there.workload)
    return config, tuned_config(found, EXACT, [point], there, "smollm2", summary), study


@pytest.mark.parametrize("method", OTHERS)
def test_a_tuned_file_decodes_as_the_method(method, tmp_path):
    config, written, study = tuned_file(space(methods=EVERY, **SMALL), method)
    tuned.save(written, tmp_path / "tuned.json")
    read = tuned.load(tmp_path / "tuned.json").config
    assert read == config
    assert read.method == method
    decoder = Decoder(
        SHAPE, random_weights(SHAPE, seed=0), read.model_copy(update={"execution": DecodeConfig().execution})
    )
    decoder.prefill([torch.arange(90) % SHAPE.vocabulary])
    assert decoder.step(torch.tensor([1])).isfinite().all()
    reference = method not in ("dense", "streaming", "scan")
    where = written.evidence.throughput["tokens_per_s"].measured_on
    assert where.endswith("reference implementation") == reference
    detail = " ".join(study["answer"]["detail"])
    assert (f"The time of {method} is that of the reference implementation, timed on the CPU" in detail) == reference
    assert ("streaming are counts" in detail) == (method == "streaming")
    shown = dict(words.settings(parse(json.loads(json.dumps(study))).trials[-1]))
    assert shown["method"] == method
    assert {name.replace("_", " ") for name in RANGES[method] if name in describe(config)["parameters"]} <= set(shown)


def test_records_say_what_is_not_the_methods_default():
    there = space(methods=EVERY, **SMALL)
    assert describe(there.config({"method": "quest", "batch_size": 1}))["label"] == "quest"
    point = {"method": "quest", "quest.budget": 0.0123456, "quest.page_size": 32, "batch_size": 1}
    assert describe(there.config(point))["label"] == "quest, budget 0.0123, page_size 32"
