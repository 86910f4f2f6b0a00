"""What a method is called beside others: its name, and of its parameters what readers know it by."""

import json

from .numbers import percent
from .record import RecordError, shown


def method_label(method: str, parameters: str | None) -> str:
    """Such as "lsh (10, 150)" or "scan 4 bits"; raises RecordError where `parameters` is not a JSON object."""
    own = own_parameters(method, parameters)
    words = [method]
    if own.get("K") is not None and method == "lsh":
        words.append(f"({own['K']}, {own.get('L')})")
        words += [f"min_hits {own['min_hits']}"] if own.get("min_hits") not in (None, 2) else []
        words += [str(own["family"])] if own.get("family") not in (None, "simhash") else []
        words += _probing(own.get("probing"))
        words += ["not centred"] if own.get("centred") is False else []
    if method == "scan":
        words.append(f"{own.get('bits')} bit{'s' * (own.get('bits') != 1)}")
        words += [percent(own["budget"])] if isinstance(own.get("budget"), float) else []
    return " ".join(words)


def own_parameters(method: str, parameters: str | None, name: str = "parameters") -> dict:
    """The JSON object in a field of a record, its parameters or what is named, empty where it has none."""
    try:
        own = json.loads(parameters or "{}")
    except ValueError:
        own = None
    if not isinstance(own, dict):
        raise RecordError(f"{name} of {method} must be a JSON object, got {shown(parameters)}")
    return own


def _probing(probing) -> list[str]:
    known = isinstance(probing, dict) and probing.get("amount")
    return [f"{probing.get('kind')} {probing['amount']}"] if known else []
