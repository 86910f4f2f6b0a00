"""Names that stand beside one another and must not be the same."""

from collections.abc import Sequence


def told_apart(names: Sequence[str], files: Sequence[str]) -> list[str]:
    """Each name, with its file's after it where another file has the same."""
    owners: dict[str, set[str]] = {}
    for name, file in zip(names, files, strict=True):
        owners.setdefault(name, set()).add(file)
    return [f"{name}, {file}" if len(owners[name]) > 1 else name for name, file in zip(names, files, strict=True)]
