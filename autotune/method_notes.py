"""What has to be said of the figures of other methods than lsh, wherever they are shown."""

from __future__ import annotations

from collections.abc import Iterable

from truffle.autotune.method_space import is_reference
from truffle.autotune.record import TrialRecord
from truffle.model.config import METHODS


def method_notes(records: Iterable[TrialRecord]) -> list[str]:
    """Sentences on the methods of measured records; none where they are lsh's alone."""
    kinds = {record.method: record.throughput_kind for record in records}
    references = [method for method in METHODS if method in kinds and is_reference(method)]
    notes = []
    if references:
        where = ", timed on the CPU, also where a card would do it" if kinds[references[0]] == "estimated" else ""
        notes.append(
            f"The time of {', '.join(references)} is that of the reference implementation{where}: it reads every key "
            "to choose a few, and says nothing of what kernels would take."
        )
    if "streaming" in kinds:
        notes.append(
            "Sink and window of streaming are counts: behind a longer context than the one that its error was measured "
            "at they leave more out."
        )
    return notes
