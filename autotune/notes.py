"""What a reader has to know of a study's figures, wherever they are shown."""

from __future__ import annotations

from truffle.autotune.filling import OWN_LAYERS, written
from truffle.autotune.method_space import is_reference
from truffle.autotune.record import TrialRecord
from truffle.autotune.thread_sweep import on_threads
from truffle.model.config import METHODS


def notes(records: list[TrialRecord]) -> list[str]:
    """Sentences on the records that were measured; none where nothing has to be said."""
    measured = [record for record in records if record.kl is not None]
    return [*_on_references(measured), *_on_streaming(measured), *_on_filling(measured), *on_threads(measured)]


def _on_references(records: list[TrialRecord]) -> list[str]:
    kinds = {record.method: record.throughput_kind for record in records if is_reference(record.method)}
    if not kinds:
        return []
    names = ", ".join(method for method in METHODS if method in kinds)
    where = ", timed on the CPU, also where a card would do it" if "estimated" in kinds.values() else ""
    return [
        f"The time of {names} is that of the reference implementation{where}: it reads every key to choose a few, and "
        "says nothing of what kernels would take."
    ]


def _on_streaming(records: list[TrialRecord]) -> list[str]:
    if all(record.method != "streaming" for record in records):
        return []
    return [
        "Sink and window of streaming are counts: behind a longer context than the one that its error was measured at "
        "they leave more out."
    ]


def _on_filling(records: list[TrialRecord]) -> list[str]:
    if not any(record.filled for record in records):
        return []
    return [
        f"Where dense layers fill the GPU, accuracy was measured with layers {written(OWN_LAYERS)} dense alone, "
        "which is on the safe side: more dense layers only leave less to sample."
    ]
