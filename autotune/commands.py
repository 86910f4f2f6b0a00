"""What each subcommand of python -m autotune does."""

from __future__ import annotations

import argparse
import json
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from truffle.autotune import export as exports
from truffle.kernels import profiles as cards
from truffle.kernels.checks import expect
from truffle.model import tuned


def tune(arguments: argparse.Namespace) -> int:
    """Search, and write a tuned config and reports."""
    from truffle.autotune.tune import tune as run  # torch and its kin, which no other command needs

    return run(arguments)


def worker(arguments: argparse.Namespace) -> int:
    """Run trials of a study that a tuner keeps in a database."""
    from truffle.autotune.worker import worker as run

    return run(arguments)


def profiles(arguments: argparse.Namespace) -> int:
    """List the cards that --gpu takes."""
    found = [cards.load(name) for name in cards.known()]
    if arguments.json:
        print(json.dumps([card.model_dump(mode="json") for card in found], indent=1))
        return 0
    table = Table("id", "or", "memory", "bandwidth", "16-bit", "link", "kinds of figures", box=None, pad_edge=False)
    for card in found:
        figures = (card.memory_bandwidth_bytes_per_s, card.bf16_flops_per_s, card.link_bandwidth_bytes_per_s)
        bandwidth, flops, link = (figure.value for figure in figures)
        kinds = sorted({figure.kind for figure in (card.memory_bytes, *figures, card.memory_efficiency)})
        table.add_row(
            card.id, min(card.aliases, key=len, default=""), f"{card.memory_bytes.value / 2**30:.0f} GiB",
            f"{bandwidth / 1e9:,.0f} GB/s", f"{flops / 1e12:.0f} TFLOP/s {card.matmul_dtype}",
            f"{link / 1e9:.0f} GB/s", ", ".join(kinds),
        )  # fmt: skip
    console = Console()
    console.width = max(console.width, 100)
    console.print(table)
    print(f"\nOf every figure, the kind and source: --json. Your own cards: {cards.user_folder()}")
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Explain a tuned file."""
    config = tuned.load(arguments.file)
    accuracy, throughput = config.evidence.accuracy, config.evidence.throughput
    hardware, study = config.hardware, config.study
    rows = {
        "for": f"{config.model.id} at {config.workload.context} tokens, on {hardware.profile or 'no GPU'}"
        f"{_held(hardware)} with {hardware.cpu.model or 'an unknown CPU'} ({hardware.kind})",
        "method": f"{config.config.method} {config.config.parameters.model_dump_json()}",
        "execution": config.config.execution.model_dump_json(),
        "implementations": ", ".join(f"{op}={name}" for op, name in config.config.implementations.items()) or "auto",
        **{name: _figure(figure) for name, figure in {**throughput, **accuracy}.items()},
        **{f"{name} does": _figure(figures["tokens_per_s"]) for name, figures in config.evidence.baselines.items()},
        "study": f"{study.trials} trials, {study.failed} failed, {study.seconds:.0f} s, stopped by {study.stop_reason}",
        "matches": f"equal {', '.join(config.match.equal)}; context and batch within "
        f"{config.match.context_ratio:g}x and {config.match.batch_ratio:g}x",
        "written": f"{config.created} by {config.generator.name} {config.generator.version}",
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in rows.items():
        table.add_row(name, escape(value))
    Console().print(table)
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Print a tuned file as another program takes it; what its user must know goes to stderr."""
    found = exports.export(tuned.load(arguments.file), arguments.to, arguments.point)
    print(found.text, end="")
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    return 0


def _held(hardware: tuned.Hardware) -> str:
    limit = hardware.vram_limit_bytes
    return "" if limit is None else f" held to {limit / 2**30:.1f} GiB"


def _figure(figure: tuned.Figure) -> str:
    interval = f" ({figure.ci95[0]:.4g} to {figure.ci95[1]:.4g})" if figure.ci95 else ""
    return f"{figure.value:.4g}{interval}, {figure.kind} on {figure.measured_on}"


def calibrate(arguments: argparse.Namespace) -> int:
    """Measure this host and write the file that --host takes."""
    from truffle.bench import bandwidth, host_file

    expect(0 < arguments.seconds < 3600, "seconds", "more than 0 and less than 3600", arguments.seconds)
    print(f"measuring this host for about {2.25 * arguments.seconds:g} s, and what making keys takes", file=sys.stderr)
    calibration = bandwidth.calibrate(seconds=arguments.seconds, with_kernels=True)
    path = arguments.file or host_file.default_path()
    calibration.save(path)
    for rates in calibration.rates:
        read, gather = rates.read_bytes_per_s.p50 / 1e9, rates.gather_512_bytes_per_s.p50 / 1e9
        print(f"{rates.threads} threads: read {read:.1f} GB/s, gather of 512-byte rows {gather:.1f} GB/s")
    print(f"{host_file.described(calibration.cpu)}: {len(calibration.kernels)} times of kernels; written to {path}")
    return 0


def backtest(arguments: argparse.Namespace) -> int:
    """Compare predicted with measured steps."""
    from truffle.autotune import backtest_command

    return backtest_command.run(arguments)


def estimate(arguments: argparse.Namespace) -> int:
    """Estimate steps on every card."""
    from truffle.autotune import estimates

    return estimates.run(arguments)


def record(arguments: argparse.Namespace) -> int:
    """Record a grid of settings."""
    from truffle.autotune import grid_recorder

    return grid_recorder.record(arguments)


def replay(arguments: argparse.Namespace) -> int:
    """Judge the search on recorded grids."""
    from truffle.autotune import replay_command

    return replay_command.run(arguments)


def verify(arguments: argparse.Namespace) -> int:
    """Measure what a tuned file says once more."""
    from truffle.autotune import verify as verifying

    return verifying.run(arguments)


def compare(arguments: argparse.Namespace) -> int:
    """Tell two studies apart."""
    from truffle.autotune import compare as comparing

    return comparing.run(arguments)
