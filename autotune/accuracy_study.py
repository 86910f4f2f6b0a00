"""What a study of accuracy alone leaves behind: its records, and which of them nothing beats in KL and rows read."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from truffle.autotune.record import TrialRecord
from truffle.bench.records import write_records

FILE = "accuracy.json"


def finish_accuracy(out: Path, records: list[TrialRecord], stop_reason: str, command: str) -> None:
    """Write the records to accuracy.json and print the front. No setting is recommended: that takes throughput."""
    kept = [{name: value for name, value in record.to_dict().items() if name != "seconds"} for record in records]
    write_records(out / FILE, kept, command)
    table = Table("trial", "KL", "rows", "output error", box=None, pad_edge=False)
    for record in accuracy_front(records):
        table.add_row(record.label, f"{record.kl:.4f}", f"{record.rows or 0:.2%}", f"{record.output_error or 0:.3f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"\n{sum(r.status == 'complete' for r in records)} points, stopped by {stop_reason}; {out / FILE}")


def accuracy_front(records: list[TrialRecord]) -> list[TrialRecord]:
    """Feasible points that no other beats in both KL and rows read, by KL."""
    found: list[TrialRecord] = []
    for record in sorted((r for r in records if r.feasible), key=lambda r: (r.kl or 0.0, -r.merit)):
        if not found or record.merit > found[-1].merit:
            found.append(record)
    return found
