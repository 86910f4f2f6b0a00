"""Trials and raw samples as CSV and Parquet."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def write_rows(name: Path, rows: Sequence[dict[str, Any]], columns: Iterable[str] | None = None) -> list[Path]:
    """Writes `name`.csv and `name`.parquet, a column a key, and returns their paths; what is missing is empty or null.

    Columns are the keys of all rows in order of appearance, unless they are given. A column of numbers and text
    alike is text in Parquet, which knows one type a column.
    """
    columns = list(columns or dict.fromkeys(key for row in rows for key in row))
    written = [name.with_name(name.name + ending) for ending in (".csv", ".parquet")]
    with written[0].open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, columns)
        writer.writeheader()
        writer.writerows(rows)
    _write_parquet(written[1], rows, columns)
    return written


def _write_parquet(path: Path, rows: Sequence[dict[str, Any]], columns: list[str]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({name: _column([row.get(name) for row in rows]) for name in columns}), path)


def _column(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    mixed = len(kinds) > 1 or not kinds <= {bool, int, float, str}
    return [None if value is None else str(value) for value in values] if mixed else values
