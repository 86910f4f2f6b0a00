"""Figures as people read them: significant digits, thousands, units, and a dash for what is missing."""

import math

DASH = "–"


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def figure(value, digits: int = 3) -> str:
    """`value` to `digits` significant digits, thousands set apart; text passes through, None is a dash."""
    if value is None or value == "":
        return DASH
    if not _is_number(value):
        return str(value)
    if value == 0 or isinstance(value, int) or abs(value) >= 10**digits:
        return f"{value:,.0f}"
    if abs(value) < 1e-4:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    exponent = int(f"{value:.{digits - 1}e}".split("e")[1])
    return f"{value:,.{max(0, digits - 1 - exponent)}f}"


def with_unit(value, unit: str, digits: int = 3) -> str:
    return f"{figure(value, digits)} {unit}" if _is_number(value) else figure(value)


def interval(low, high) -> str:
    """A 95% interval as "0.011 to 0.014", empty when it is not known or is a single value."""
    known = _is_number(low) and _is_number(high) and low != high
    return f"{figure(low)} to {figure(high)}" if known else ""


def percent(share) -> str:
    return f"{figure(100.0 * share)}\u00a0%" if _is_number(share) else figure(share)


def times(ratio) -> str:
    return f"{figure(float(ratio))}×" if _is_number(ratio) else figure(ratio)


def size(n_bytes) -> str:
    """Bytes in decimal units, as memory sizes of cards are quoted."""
    if not _is_number(n_bytes):
        return figure(n_bytes)
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(n_bytes) >= scale:
            return f"{figure(n_bytes / scale)} {unit}"
    return f"{n_bytes:.0f} B"


def gibibytes(n_bytes) -> str:
    """Bytes as limits of memory are given, such as "24.0 GiB"."""
    return f"{n_bytes / 2**30:.1f} GiB" if _is_number(n_bytes) else figure(n_bytes)


def duration(seconds) -> str:
    if not _is_number(seconds):
        return figure(seconds)
    if seconds < 60:
        return f"{figure(float(seconds))} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def yes_no(flag) -> str:
    return {True: "yes", False: "no"}.get(flag, DASH)
