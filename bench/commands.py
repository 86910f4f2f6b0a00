"""What each subcommand of python -m truffle.bench does."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from truffle.bench import task_command
from truffle.bench.tables import (
    accuracy_table,
    implementation_table,
    prefill_table,
    probing_table,
    record_table,
    show,
    timeline_table,
)
from truffle.model.arguments import decode_config, read_prompt, require_device


def list_implementations(arguments: argparse.Namespace) -> None:
    """Every implementation of every operation, usable here or why not."""
    from truffle.kernels import registry

    rows = [{"op": op, "impl": name, "usable": reason is None, "reason": reason, "isas": _isas(op, name, reason)}
            for op in registry.ops() for name, reason in registry.usable(op).items()]  # fmt: skip
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        show(implementation_table(rows))


def _isas(op: str, name: str, reason: str | None) -> list[str]:
    from truffle.kernels import isa, registry

    if reason is not None:
        return []
    return [level for level in registry.get(op, name).needs.isas if isa.why_not(level) is None]


def time_decode(arguments: argparse.Namespace) -> None:
    """Time decode steps and print one record."""
    import torch

    from truffle.bench import decode, workloads
    from truffle.bench.accuracy import require_positions
    from truffle.bench.records import write_records
    from truffle.kernels.checks import expect
    from truffle.model.weights import load

    config = with_batch(decode_config(arguments), arguments.batch)
    for name in ("context", "steps"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"{name}: expected at least 1, got {getattr(arguments, name)}")
    require_device(arguments.device)
    torch.set_num_threads(config.execution.threads)
    timeline: list[dict[str, Any]] = []
    if arguments.workload:
        workload = workloads.parse_workload(arguments.workload).sampling(arguments.sampled, config.parameters)
        own_bytes = _limit_vram(arguments, workload.shape, config, workload.context)
        if arguments.fill_vram:
            config = _filled(workload, config, own_bytes)
        record, timeline = _time_workload(workload, config, arguments)
        record["model"] = workload.model
    else:
        expect(not arguments.fill_vram, "fill_vram", "a --workload, whose memory is known before", arguments.model)
        dtype = torch.float32 if arguments.device == "cpu" else torch.bfloat16
        model = load(arguments.model, arguments.device, dtype)
        _limit_vram(arguments, model.shape, config, arguments.context)
        require_positions(model, arguments.context, arguments.steps)
        record = decode.time_model(model, config, arguments.context, arguments.steps)
        record["model"] = arguments.model
    record = {"op": "decode", "device": arguments.device, **described(config), **record}
    if arguments.vram_limit:
        record["vram_limit"] = arguments.vram_limit
    show(record_table(record))
    if timeline:
        show(timeline_table(timeline))
    if arguments.json:
        write_records(arguments.json, [record, *timeline], arguments.command_line)


def _time_workload(
    workload: Any, config: Any, arguments: argparse.Namespace
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Whole steps on a GPU; on the CPU a few layers, scaled."""
    import torch

    from truffle.bench import decode, whole_step

    if arguments.device == "cuda":
        return whole_step.time_steps(workload, config, arguments.steps, "cuda", torch.bfloat16)
    return decode.time_workload(workload, config, arguments.steps, torch.bfloat16), []


def _limit_vram(arguments: argparse.Namespace, shape: Any, config: Any, context: int) -> int | None:
    """Enforce the limit there is; returns the bytes that it leaves for tensors."""
    from truffle.bench.vram import limit_vram, parse_size, static_bytes
    from truffle.kernels.checks import expect

    if arguments.vram_limit is None:
        return None
    size = parse_size(arguments.vram_limit)
    expect(arguments.device == "cuda", "vram_limit", "device cuda", arguments.device)
    return limit_vram(size, static_bytes(shape, config, context))


def _filled(workload: Any, config: Any, own_bytes: int | None) -> Any:
    """The config with as many dense layers as the limit holds beside what is needed in passing."""
    from truffle.bench.vram import HEADROOM_BYTES, building_bytes, filled
    from truffle.kernels.checks import expect

    expect(own_bytes is not None, "fill_vram", "a --vram-limit to fill", None)
    assert own_bytes is not None
    room = own_bytes - HEADROOM_BYTES - building_bytes(workload.shape, workload.context)
    return filled(workload.shape, config, workload.context, room)


def time_prefill(arguments: argparse.Namespace) -> None:
    """Time a prefill with tables and without, and print a record and a table of its layers."""
    import torch

    from truffle.bench import prefill, workloads
    from truffle.bench.records import write_records
    from truffle.kernels.checks import expect

    config, workload = decode_config(arguments), workloads.parse_workload(arguments.workload)
    expect(arguments.rounds >= 1, "rounds", "at least 1", arguments.rounds)
    require_device(arguments.device)
    torch.set_num_threads(config.execution.threads)
    shape = prefill.built_shape(workload, config, arguments.layers)
    _limit_vram(arguments, shape, config, workload.context)
    record, layers = prefill.time_prefill(
        shape, config, workload.context, arguments.rounds, arguments.device, torch.bfloat16
    )
    common = {"device": arguments.device, "workload": arguments.workload, **described(config)}
    if arguments.vram_limit:
        common["vram_limit"] = arguments.vram_limit
    record = {"op": "prefill", **common, **record}
    show(record_table(record))
    show(prefill_table(layers))
    if arguments.json:
        write_records(arguments.json, [record, *layers], arguments.command_line)


def measure_accuracy(arguments: argparse.Namespace) -> None:
    """Compare a method with exact decoding, teacher-forced, and print the summary; with --tasks, methods by task."""
    if arguments.tasks is not None:
        return task_command.measure_task_accuracy(arguments)
    task_command.require_tasks(arguments)
    import torch
    from rich.console import Console
    from rich.progress import track

    from truffle.bench import accuracy
    from truffle.bench.records import write_records
    from truffle.bench.text import SOURCE
    from truffle.model.generate import Sampler

    config = decode_config(arguments)
    for name in ("samples", "steps", "context"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"{name}: expected at least 1, got {getattr(arguments, name)}")
    own = Sampler(arguments.temperature)  # made here, so that a wrong temperature is refused even where unused
    torch.set_num_threads(config.execution.threads)
    model = task_command.loaded(arguments)
    if arguments.prompt_file:
        source = str(arguments.prompt_file)
        runs = [_run_prompt(model, arguments, own)]
    else:
        source, temperature = SOURCE, arguments.temperature if arguments.continuation == "dense" else None
        setting = accuracy.Setting(arguments.context, arguments.samples, arguments.steps, temperature)
        print(f"exact run over {setting.samples} x {setting.context} tokens of {SOURCE}", file=sys.stderr)
        runs = accuracy.dense_runs(model, setting, config.execution.threads)
    numbered = track(list(enumerate(runs)), "sampled runs", transient=True, console=Console(stderr=True))
    steps = [step for sample, run in numbered for step in accuracy.measure(model, run, config, sample)]
    summary = {
        "op": "accuracy", "model": arguments.model, "text": source, "context": len(runs[0].prompt),
        "samples": len(runs), "steps": arguments.steps,
        "continuation": "dense" if arguments.prompt_file else arguments.continuation,
        "device": arguments.device, "dtype": arguments.dtype,
        **described(config), **accuracy.summarise(steps), **_ends(steps),
    }  # fmt: skip
    print(f"{summary['method']} {_brief(config)} on {summary['model']}, {summary['context']} tokens of {source}")
    show(accuracy_table(summary))
    if arguments.json:
        write_records(
            arguments.json, [summary, *({"op": "accuracy_step", **step} for step in steps)], arguments.command_line
        )


def compare_probing(arguments: argparse.Namespace) -> None:
    """Measure probing and plain settings on a model's keys, and print which probing settings save index bytes."""
    import torch
    from rich.console import Console
    from rich.progress import track

    from truffle.bench import probing, probing_front, text
    from truffle.bench.dense_run import run_dense
    from truffle.bench.records import write_records
    from truffle.kernels.checks import expect
    from truffle.model.weights import load

    a, records = arguments, []
    for name in ("steps", "seeds", "threads"):
        expect(getattr(a, name) >= 1, name, "at least 1", getattr(a, name))
    torch.set_num_threads(a.threads)
    model = load(a.model)
    settings = probing_front.plain_settings() + probing_front.probing_settings()
    for context in a.contexts:
        most = model.shape.max_positions
        expect(200 + a.steps <= context <= most, "contexts", f"{200 + a.steps} to {most} tokens", context)
        tokens = text.windows(model.tokenizer(), 1, context)[0]
        run = run_dense(model, tokens, a.steps, a.threads)
        measured = probing.measure_settings(run, settings, a.seeds, a.threads)
        shown = track(measured, f"{context} tokens", len(settings), transient=True, console=Console(stderr=True))
        common = {"op": "probing", "model": a.model, "text": text.SOURCE, "context": context}
        records += [common | record for record in probing_front.judge(list(shown))]
    show(probing_table(records))
    if a.json:
        write_records(a.json, records, a.command_line)


def _run_prompt(model: Any, arguments: argparse.Namespace, own: Any) -> Any:
    """An exact run over a file, continued by the dense model itself."""
    import torch

    from truffle.bench.accuracy import require_positions
    from truffle.bench.dense_run import run_dense

    text, steps = read_prompt(arguments.prompt_file), arguments.steps
    tokens = torch.tensor(model.tokenizer()(text)["input_ids"], dtype=torch.int64)
    require_positions(model, len(tokens), steps)
    return run_dense(model, tokens, steps, arguments.threads, own)


def _brief(config: Any) -> str:
    """The method's parameters, on one line."""
    shown = config.parameters.model_dump(mode="json")
    probing = shown.pop("probing", {"kind": "none"})
    if probing["kind"] != "none":
        shown["probing"] = f"{probing['kind']} {probing['amount']}"
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def _ends(steps: list[dict[str, Any]]) -> dict[str, float]:
    """Mean KL of the first and last 100 tokens of runs long enough to have both."""
    longest = 1 + max(step["step"] for step in steps)
    if longest < 200:
        return {}
    first = [step["kl"] for step in steps if step["step"] < 100]
    last = [step["kl"] for step in steps if step["step"] >= longest - 100]
    return {"kl_first_100": sum(first) / len(first), "kl_last_100": sum(last) / len(last)}


def with_batch(config: Any, batch: int) -> Any:
    """The config for another batch."""
    if batch < 1:
        raise ValueError(f"batch: expected at least 1, got {batch}")
    return config.model_copy(update={"execution": config.execution.model_copy(update={"batch_size": batch})})


def described(config: Any) -> dict[str, Any]:
    """A config as flat strings and numbers."""
    execution = config.execution
    return {
        "method": config.method,
        "parameters": config.parameters.model_dump_json(),
        "batch": execution.batch_size,
        "threads": execution.threads,
        "isa": execution.isa,
        "wait_policy": execution.wait_policy,
        "micro_batches": execution.micro_batches,
        "store_format": execution.store_format,
    }
