"""Writes what a study leaves behind: study.json, tuned.json, the reports and the command."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import truffle
from truffle.autotune.answer import Answer, front
from truffle.autotune.baselines import Baseline, known_interval
from truffle.autotune.filling import OWN_LAYERS, written
from truffle.autotune.method_space import is_reference
from truffle.autotune.notes import notes
from truffle.autotune.record import TrialRecord
from truffle.autotune.space import Space
from truffle.autotune.target import Target
from truffle.bench.environment import environment
from truffle.bench.records import write_atomically
from truffle.bench.workloads import Workload
from truffle.kernels import registry
from truffle.kernels.profiles import GpuProfile
from truffle.model import tuned
from truffle.model.config import FUSED, SEPARATE, DecodeConfig, DenseParameters, Execution, LshParameters
from truffle.model.tuned import Figure


def tuned_config(
    answer: Answer, exact: Baseline, records: list[TrialRecord], space: Space, proxy: str, study: tuned.Study
) -> tuned.TunedConfig:
    """The tuned file of an answer."""
    target, workload, around = space.target, space.workload, environment()
    return tuned.TunedConfig(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        generator=tuned.Generator(name="truffle", version=truffle.__version__, commit=around.get("commit")),
        hardware=_hardware(target),
        model=tuned.Model(id=workload.model, architecture=workload.shape.architecture, shape=workload.shape),
        workload=tuned.Workload(context=workload.context, new_tokens=workload.new_tokens),
        match=_match(target),
        config=_config(answer.trial, exact, space),
        evidence=tuned.Evidence(
            accuracy=_accuracy(answer.trial, proxy, target),
            throughput=_throughput(answer.trial, exact, target),
            baselines=_baselines(records, exact, target),
        ),
        front=tuple(
            tuned.FrontPoint(
                config=_config(record, exact, space),
                accuracy=_accuracy(record, proxy, target),
                throughput=_throughput(record, exact, target),
            )
            for record in front(records, exact)
            if record is not answer.trial
        ),
        study=study,
    )


def _config(record: TrialRecord | None, exact: Baseline, space: Space) -> DecodeConfig:
    if record is None:
        execution = Execution(batch_size=exact.batch_size or 1, threads=space.threads[-1], isa=space.target.host.isa)
        return DecodeConfig(parameters=DenseParameters(), execution=execution)
    config = space.config_of(record)
    if not isinstance(config.parameters, LshParameters):
        return config
    names = dict(config.implementations) if config.resident else _on_host(config, record)
    names["hash_codes"] = "gpu_triton" if space.target.gpu else registry.get("hash_codes").name
    return config.model_copy(update={"implementations": names})


def _on_host(config: DecodeConfig, record: TrialRecord) -> dict[str, str]:
    """What runs the host's part, by name also where `auto` took it here."""
    directs = ("direct_probes",) if (record.probing or "").startswith("directed") else ()
    ops = ("build_tables", *directs, *((FUSED,) if config.fused else SEPARATE))
    return {op: registry.get(op, config.implementations.get(op, "auto")).name for op in ops}


def _hardware(target: Target) -> tuned.Hardware:
    gpu = target.gpu
    return tuned.Hardware(
        profile=gpu.id if gpu else None,
        gpu=_gpu(gpu, target.gpu_present) if gpu else None,
        cpu=tuned.Cpu(
            model=target.host.name,
            logical_cpus=target.host.logical_cpus,
            memory_bytes=target.host.memory_bytes,
            source=target.host.source,
        ),
        link=tuned.Link(gen=gpu.link.gen, width=gpu.link.width) if gpu else None,
        kind=target.kind,
        vram_limit_bytes=target.vram_limit_bytes,
    )


def _gpu(gpu: GpuProfile, present: bool) -> tuned.Gpu:
    return tuned.Gpu(name=gpu.name, memory_bytes=int(gpu.memory_bytes.value), present=present)


def _match(target: Target) -> tuned.Match:
    """A limit is part of what the answer holds for."""
    whole = tuned.Match()
    held = () if target.vram_limit_bytes is None else ("hardware.vram_limit_bytes",)
    return whole.model_copy(update={"equal": whole.equal + held})


def _accuracy(record: TrialRecord | None, proxy: str, target: Target) -> dict[str, Figure]:
    if record is None:
        return {"kl": Figure(value=0.0, kind="measured", measured_on="exact attention, by definition")}
    kind = "replayed" if target.recorded else "measured"
    proxy += f", dense layers {written(OWN_LAYERS)} only" if record.filled else ""
    found = {"kl": Figure(value=record.kl, ci95=(record.kl_low, record.kl_high), kind=kind, measured_on=proxy)}
    for name in ("top1", "perplexity_ratio", "output_error", "density", "rows"):
        value = getattr(record, name)
        if value is not None:  # dense attends everything
            found[name] = Figure(value=value, kind=kind, measured_on=proxy)
    return found


def _throughput(record: TrialRecord | None, exact: Baseline, target: Target) -> dict[str, Figure]:
    machine = f"{target.card}, {target.host.name} ({target.host.source})"
    where = machine if target.recorded else f"{machine}, a few layers, scaled"
    if record is None:
        bounds = known_interval(exact, target)
        return {"tokens_per_s": Figure(value=exact.tokens_per_s, ci95=bounds, kind=exact.kind, measured_on=where)}
    where += ", the reference implementation" if is_reference(record.method) else ""
    interval = (record.tokens_per_s_low, record.tokens_per_s_high)
    figure = Figure(value=record.tokens_per_s, ci95=interval, kind=record.throughput_kind, measured_on=where)
    return {"tokens_per_s": figure}


def _baselines(records: list[TrialRecord], exact: Baseline, target: Target) -> dict[str, dict[str, Figure]]:
    found = {"dense": _throughput(None, exact, target)}
    for record in records:
        if record.origin == "default" and record.status == "complete":
            found["default"] = _throughput(record, exact, target)
    return found


def study_record(
    answer: Answer,
    baselines: list[Baseline],
    records: list[TrialRecord],
    target: Target,
    workload: Workload,
    **facts: Any,
) -> dict[str, Any]:
    """The study as the reports read it; `facts` are the entries that only the command line knows."""
    gpu, around = target.gpu, environment()
    return {
        "schema_version": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": around,
        "commit": around.get("commit"),
        "gpu": {
            "profile": gpu.id, "name": gpu.name, "present": target.gpu_present, "memory_bytes": gpu.memory_bytes.value,
            "vram_limit_bytes": target.vram_limit_bytes,
        } if gpu else None,
        "host": {
            "cpu": target.host.name,
            "logical_cpus": target.host.logical_cpus,
            "memory_bytes": target.host.memory_bytes,
            "source": target.host.source,
        },
        "workload": {
            "id": workload.id,
            "model": workload.model,
            "context": workload.context,
            "new_tokens": workload.new_tokens,
        },
        "answer": {
            "headline": answer.headline,
            "detail": [*answer.detail, *notes(records), *target.notes],
            "trial": answer.trial.number if answer.trial else None,
            "gain_over_dense": answer.gain_over_dense,
            "gain_over_default": answer.gain_over_default,
        },
        "baselines": [_baseline_fields(baseline) for baseline in baselines],
        "trials": [record.to_dict() for record in [*_exact_trials(baselines, target), *records]],
        **facts,
    }  # fmt: skip


def _baseline_fields(baseline: Baseline) -> dict[str, Any]:
    fields = {name: value for name, value in vars(baseline).items() if name not in ("step", "step_s")}
    return {**fields, "step_ms": baseline.step_s * 1e3 if baseline.step_s else None}


def _exact_trials(baselines: list[Baseline], target: Target) -> list[TrialRecord]:
    """Exact ways as records of their own, numbered from -1 down, so that tables and plots hold everything."""
    found = []
    for index, baseline in enumerate(baselines):
        figures: dict[str, Any] = {"reason": baseline.reason}
        if baseline.step_s:
            rate, (low, high) = baseline.tokens_per_s, known_interval(baseline, target) or (None, None)
            figures = {
                "kl": 0.0, "kl_low": 0.0, "kl_high": 0.0, "top1": 1.0, "perplexity_ratio": 1.0, "tokens_per_s": rate,
                "tokens_per_s_low": low, "tokens_per_s_high": high, "throughput_kind": baseline.kind,
                "step_ms": baseline.step_s * 1e3, "feasible": True,
                "batch_size": baseline.batch_size, "gpu_memory_bytes": baseline.gpu_memory_bytes,
                "host_memory_bytes": baseline.host_memory_bytes,
            }  # fmt: skip
            figures |= baseline.step.milliseconds() if baseline.step else {}
        status = "complete" if baseline.fits else "pruned"
        found.append(TrialRecord(-1 - index, status, "baseline", f"dense: {baseline.name}", "dense", **figures))
    return found


def write(folder: Path, study: dict[str, Any], config: tuned.TunedConfig) -> None:
    """Write study.json, tuned.json and the command beside the journal."""
    write_atomically(folder / "study.json", json.dumps(study, indent=1, allow_nan=False) + "\n")
    tuned.save(config, folder / "tuned.json")
    write_atomically(folder / "command.txt", study["resolved_command"] + "\n")
