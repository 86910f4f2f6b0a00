"""What a method is called beside others: its name, and of its parameters what readers know it by."""

import json

from .numbers import percent
from .record import RecordError, shown

OWN_LAYERS = [0, 16]
FEW = 4


def method_label(method: str, parameters: str | None, layers: bool = True) -> str:
    """Such as "lsh (10, 150)" or "scan 4 bits"; raises RecordError where `parameters` is not a JSON object.

    Layers that attend everything are named where they are not those that a method has by itself, and with `layers`.
    """
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
    return " ".join(words) + (_exact_layers(own.get("dense_layers", OWN_LAYERS)) if layers else "")


def own_parameters(method: str, parameters: str | None, name: str = "parameters") -> dict:
    """The JSON object in a field of a record, its parameters or what is named, empty where it has none."""
    try:
        own = json.loads(parameters or "{}")
    except ValueError:
        own = None
    if not isinstance(own, dict):
        raise RecordError(f"{name} of {method} must be a JSON object, got {shown(parameters)}")
    return own


def _exact_layers(dense) -> str:
    if not isinstance(dense, list) or dense == OWN_LAYERS:
        return ""
    if not dense:
        return ", no exact layer"
    if len(dense) > FEW:
        return f", {len(dense)} exact layers"
    return f", exact layer{'s' * (len(dense) > 1)} {', '.join(map(str, dense))}"


def _probing(probing) -> list[str]:
    known = isinstance(probing, dict) and probing.get("amount")
    return [f"{probing.get('kind')} {probing['amount']}"] if known else []
