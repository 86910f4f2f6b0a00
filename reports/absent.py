"""What a report could show and has no data for, with the command that gets it."""

from .record import Study

RENDER = "python -m truffle.reports render DIR --records FILE.json"
ON_A_CARD = ("rivals", "scaling")


def absent(study: Study, groups: set[str]) -> list[tuple[str, str, str, str]]:
    """Section, why it is not there, where else than here its command runs, and that; `groups` have data."""
    workload = study.workload.get("id") or "llama-3.1-8b@96k"
    accuracy = "python -m truffle.bench accuracy --context 4096 --json FILE.json"
    wanted = {
        "map": (
            "Bits and tables", "fewer than four settings of K and L completed",
            f"{study.command or 'python -m autotune --out DIR'} --resume --trials 48",
        ),
        "methods": (
            "Methods at equal density", _why_no_methods(study),
            f"{accuracy} --texts reference,code,essays --densities 0.02 --methods 'lsh --K 10 --L 150, scan, quest'",
        ),
        "rivals": (
            "Beside exact decoding", "exact ways are estimated or timed by a few layers, not in turns",
            f"python -m truffle.bench rivals --workload {workload} --json FILE.json",
        ),
        "scaling": (
            "Threads and batch", "a tune sweeps threads at one point, and no batches",
            f"python -m truffle.bench scaling --workload {workload} --sweep-threads 1,2,4 --batch 1,2 --json FILE.json",
        ),
        "steps": (
            "Where a step’s time goes", "whole steps were timed, not their parts",
            f"python -m truffle.bench decode --workload {workload} --json FILE.json",
        ),
        "tasks": (
            "Accuracy by task", "a tune measures KL on text only",
            f"{accuracy} --tasks niah,vt --methods lsh,quest --densities 0.05 --samples 30",
        ),
    }  # fmt: skip
    have = groups | ({"steps"} if "layers" in groups else set())
    elsewhere = "" if study.gpu.get("present") else ", on a machine with the card"
    return [
        (*words[:2], elsewhere if name in ON_A_CARD else "", _then_rendered(words[2]))
        for name, words in wanted.items() if name not in have
    ]  # fmt: skip


def _why_no_methods(study: Study) -> str:
    tried = {t.method for t in study.trials if t.status == "complete" and not t.exact}
    return (
        "no two methods have trials near the density of what is advised"
        if len(tried) > 1
        else "the search tried one method"
    )


def _then_rendered(command: str) -> str:
    return f"{command}\n{RENDER}" if "FILE.json" in command else command
