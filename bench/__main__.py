"""python -m truffle.bench: list implementations, time operations and decoding, measure accuracy, gate regressions."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from truffle.bench import (
    accuracy_command,
    commands,
    families_command,
    gate_command,
    guarantee_command,
    layer_command,
    op_command,
    probing_command,
    rivals_command,
    scaling_command,
)
from truffle.model.arguments import add_decode_arguments, add_probing_arguments
from truffle.model.parser import OneLineParser


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    arguments.command_line = shlex.join(["python", "-m", "truffle.bench", *(sys.argv[1:] if argv is None else argv)])
    try:
        return arguments.run(arguments) or 0
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        print(f"error: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m truffle.bench", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True)

    listing = subparsers.add_parser("list", help="every implementation, and whether it is usable here")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(run=commands.list_implementations)

    op = subparsers.add_parser("op", help="time implementations of operations side by side")
    op.add_argument("ops", metavar="OP[,OP]", help="operations, or retrieve+sparse_attend for both as one decode step")
    op.add_argument("--impl", help="names, separated by commas (default: all that are usable)")
    for name, default in (
        ("context", 98_304),
        ("heads", 32),
        ("kv-heads", 8),
        ("head-dim", 128),
        ("K", 10),
        ("L", 150),
    ):
        op.add_argument(f"--{name}", type=int, default=default, help="(%(default)s)")
    for name, default in (("min-hits", 2), ("seed", 0)):
        op.add_argument(f"--{name}", type=int, default=default, help="(%(default)s)")
    for name in ("threads", "batch"):
        op.add_argument(f"--{name}", type=op_command.numbers, default=(1,), metavar="N[,N]", help="each in turn (1)")
    add_probing_arguments(op)
    _add_sampled(op)
    op.add_argument(
        "--bits", type=int, choices=(1, 2, 4), default=4, help="of a scan's codes, a coordinate (%(default)s)"
    )
    op.add_argument("--wanted", type=float, default=0.01, help="share of the keys that a scan draws (%(default)s)")
    op.add_argument(
        "--per-head", action="store_true", help="a scan draws for every query head (default: for its group)"
    )
    op.add_argument("--wait-policy", choices=("park", "spin"), default="park", help="of the native threads (park)")
    op.add_argument("--isa", default="auto", help="instruction set of the native kernels (%(default)s)")
    op.add_argument("--dtype", choices=("bfloat16", "int8", "float32"), default="bfloat16", help="(%(default)s)")
    op.add_argument("--seconds", type=float, default=3.0, help="time an operation is sampled for (%(default)s)")
    op.add_argument("--json", type=Path, metavar="FILE", help="write the records")
    op.set_defaults(run=op_command.time_ops)

    decode = subparsers.add_parser("decode", help="time decode steps of a model, or of a workload's shapes")
    what = decode.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="smollm2, a safetensors folder or a .gguf file")
    what.add_argument("--workload", help="MODEL@CONTEXT, such as llama-3.1-8b@96k; on the CPU a few layers, scaled")
    decode.add_argument("--context", type=int, default=4096, help="prompt tokens of --model (%(default)s)")
    decode.add_argument("--steps", type=int, default=20, help="timed steps (%(default)s)")
    decode.add_argument("--batch", type=int, default=1, help="requests decoded together (%(default)s)")
    decode.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    decode.add_argument(
        "--engine", choices=("reference", "transformers"), default="reference",
        help="transformers: generate() of --model with attention truffle, beside the reference decoder (%(default)s)",
    )  # fmt: skip
    _add_sampled(decode)
    decode.add_argument(
        "--vram-limit", metavar="SIZE", help="such as 24GiB: let the process have no more of the GPU's memory"
    )
    decode.add_argument(
        "--fill-vram", action="store_true", help="attend as many layers of --workload exactly as --vram-limit holds"
    )
    decode.add_argument("--json", type=Path, metavar="FILE", help="write the record")
    add_decode_arguments(decode)
    decode.set_defaults(run=commands.time_decode)

    prefill = subparsers.add_parser("prefill", help="time to the first token with tables and without, by turns")
    prefill.add_argument("--workload", default="llama-3.1-8b@96k", metavar="MODEL@CONTEXT", help="(%(default)s)")
    prefill.add_argument("--layers", type=int, help="build this many of the model's first layers only (all)")
    prefill.add_argument("--rounds", type=int, default=3, help="timed prefills of each kind (%(default)s)")
    prefill.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="(%(default)s)")
    prefill.add_argument(
        "--vram-limit", metavar="SIZE", help="such as 24GiB: let the process have no more of the GPU's memory"
    )
    prefill.add_argument("--json", type=Path, metavar="FILE", help="write the record, and one a layer")
    add_decode_arguments(prefill)
    prefill.set_defaults(run=commands.time_prefill)

    transfers = subparsers.add_parser("transfers", help="what crosses the link in a decode step, and its share")
    transfers.add_argument(
        "--workload", type=lambda given: given.split(","), default=["llama-3.1-8b@16k", "llama-3.1-8b@96k"],
        metavar="MODEL@CONTEXT[,...]", help="(llama-3.1-8b@16k,llama-3.1-8b@96k)",
    )  # fmt: skip
    transfers.add_argument(
        "--batch", type=op_command.numbers, default=(1, 2, 4, 8, 16), metavar="N[,N]", help="(1,2,4,8,16)"
    )
    _add_steps(transfers)
    transfers.set_defaults(run=scaling_command.time_transfers)

    scaling = subparsers.add_parser("scaling", help="whole decode steps by thread count and batch")
    scaling.add_argument(
        "--workload", type=lambda given: [given], default=["llama-3.1-8b@96k"], metavar="MODEL@CONTEXT",
        help="(llama-3.1-8b@96k)",
    )  # fmt: skip
    scaling.add_argument(
        "--sweep-threads", type=op_command.numbers, required=True, metavar="N[,N]", help="in place of --threads"
    )
    scaling.add_argument("--batch", type=op_command.numbers, default=(1,), metavar="N[,N]", help="each in turn (1)")
    _add_steps(scaling)
    scaling.set_defaults(run=scaling_command.time_scaling)

    rivals = subparsers.add_parser("rivals", help="whole steps on a GPU beside exact ones within the same memory")
    rivals.add_argument("--workload", default="llama-3.1-8b@96k", help="(%(default)s)")
    rivals.add_argument("--batch", type=op_command.numbers, default=(1, 4), metavar="N[,N]", help="each in turn (1,4)")
    _add_sampled(rivals)
    rivals.add_argument("--vram-limit", metavar="SIZE", help="such as 24GiB (all of the GPU's memory)")
    rivals.add_argument("--json", type=Path, metavar="FILE", help="write a record a contender and batch")
    add_decode_arguments(rivals)
    rivals.set_defaults(run=rivals_command.time_rivals)

    accuracy = subparsers.add_parser("accuracy", help="error against exact decoding, or scores by task")
    accuracy_command.add_accuracy_arguments(accuracy)
    accuracy.set_defaults(run=accuracy_command.measure_accuracy)

    layer = subparsers.add_parser("layer", help="output error against rows and time, on one synthetic layer")
    layer_command.add_layer_arguments(layer)
    layer.set_defaults(run=layer_command.measure_layer)

    probing = subparsers.add_parser("probing", help="index bytes that probing saves at equal error, on real keys")
    probing.add_argument("--model", default="smollm2", help="(%(default)s)")
    probing.add_argument(
        "--contexts", type=lambda given: [int(part) for part in given.split(",")], default=[4096, 8192],
        metavar="N[,N]", help="tokens, those of the steps included (4096,8192)",
    )  # fmt: skip
    probing.add_argument("--steps", type=int, default=4, help="last tokens, whose queries are used (%(default)s)")
    probing.add_argument("--seeds", type=int, default=1, help="draws of a layer's planes (%(default)s)")
    probing.add_argument("--threads", type=int, default=1, help="(%(default)s)")
    probing.add_argument("--json", type=Path, metavar="FILE", help="write a record a setting and context")
    probing.set_defaults(run=probing_command.compare_probing)

    families = subparsers.add_parser("families", help="output error of hash families at equal density, on real keys")
    families.add_argument("--model", default="smollm2", help="(%(default)s)")
    families.add_argument("--context", type=int, default=4096, help="tokens, those of the steps included (%(default)s)")
    families.add_argument("--steps", type=int, default=2, help="last tokens, whose queries are used (%(default)s)")
    families.add_argument("--threads", type=int, default=1, help="(%(default)s)")
    families.add_argument("--json", type=Path, metavar="FILE", help="write the records")
    families.set_defaults(run=families_command.compare_families)

    gate = subparsers.add_parser("gate", help="whether a revision is slower, less accurate or hungrier than a base")
    gate_command.add_gate_arguments(gate)

    guarantees = subparsers.add_parser("guarantees", help="how often promised errors are exceeded, on real keys")
    guarantee_command.add_guarantee_arguments(guarantees)
    return parser


def _add_steps(parser: argparse.ArgumentParser) -> None:
    """Options of what times whole steps of a workload."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="timed steps (%(default)s)")
    _add_sampled(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records")
    add_decode_arguments(parser)


def _add_sampled(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sampled", type=float, metavar="SHARE",
        help="share of the synthetic keys that the tables sample, by the keys' spread (that of MagicPIG's Table 9)",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
