"""What all settings have in common: they cannot change, know their names, and refuse in one line."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

Layers = Annotated[tuple[NonNegativeInt, ...], Field(max_length=1024)]  # by number; a model has fewer


class Frozen(BaseModel):
    """A record that refuses unknown fields and infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def one_line(error: ValidationError) -> str:
    """The first problem of a validation error: where, what was expected, what came."""
    first = error.errors()[0]
    where, message = ".".join(str(part) for part in first["loc"]) or "config", first["msg"]
    if first["type"] == "value_error" and "ctx" in first:  # one of our own
        message = str(first["ctx"]["error"])
        if re.match(r"[\w.]+: ", message):
            return message
    return f"{where}: {message}, got {first['input']!r}"
