"""How likely the largest of m Gaussian projections is the same one, with the same sign, for two vectors."""

from __future__ import annotations

import functools

import numpy as np

_ANGLES, _RADII, _SIDE = 32, 96, 40  # nodes of Gauss-Legendre rules


def log_scaled_probability(agreement: float, coordinates: int) -> float:
    """ln p(theta; m) / agreement^m at agreement = 1 - theta / pi, in (0, 1); it stays finite as theta nears pi.

    p(theta; m) = 2m int_{x,y>0} phi(x, y) Pr(|X| < x, |Y| < y)^(m-1) dx dy, X and Y normal with correlation cos theta:
    one projection is the largest for both vectors, and the m - 1 others are below it. That one is
    (r cos b, r cos(b - theta)) in polar coordinates of two independent normals, where the integrand is smooth at every
    angle: b = theta/2 + a with |a| < (pi - theta) / 2, even in a, and nothing is left beyond the radius taken.
    """
    theta = np.pi * (1 - agreement)
    a, a_weights = _rule(_ANGLES, 0.0, np.pi / 2)  # of a / agreement
    r, r_weights = _rule(_RADII, 0.0, np.sqrt(2 * coordinates) + 9)
    others = _both_within(r, agreement * a[:, None], theta) / agreement
    logs = (coordinates - 1) * np.log(others) + np.log(r) - r**2 / 2
    largest = logs.max()
    return float(largest + np.log(2 * coordinates / np.pi * (a_weights @ np.exp(logs - largest) @ r_weights)))


def _both_within(r: np.ndarray, a: np.ndarray, theta: float) -> np.ndarray:
    """Pr(|X| < x, |Y| < y): a normal's mass in the parallelogram with a corner at radius r and angle theta/2 + a."""
    before, behind = theta / 2 + a, theta / 2 - a  # of the corner, seen from the directions of X and of Y
    x, y = r * np.cos(before), r * np.cos(behind)
    of_x = _mass_towards(x, (y + x * np.cos(theta)) / np.sin(theta), r * np.sin(before))
    of_y = _mass_towards(y, (x + y * np.cos(theta)) / np.sin(theta), r * np.sin(behind))
    return (of_x + of_y) / np.pi


def _mass_towards(distance: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """2 pi times a normal's mass in the triangle of the origin and a side, -`left` to `right` of its nearest point.

    That is the integral of distance * (1 - exp(-v/2)) / v over the side, v the squared distance to the origin; over
    s = sinh w it does not matter how long the side is.
    """
    nodes, weights = _unit_rule(_SIDE)
    start, end = np.arcsinh(-left)[..., None], np.arcsinh(right)[..., None]
    w = start + (end - start) * nodes
    v = distance[..., None] ** 2 + np.sinh(w) ** 2
    return distance * ((np.cosh(w) * -np.expm1(-v / 2) / v) @ weights) * (end - start)[..., 0]


def _rule(nodes: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    places, weights = _unit_rule(nodes)
    return low + (high - low) * places, (high - low) * weights


@functools.cache
def _unit_rule(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre over [0, 1]."""
    places, weights = np.polynomial.legendre.leggauss(nodes)
    return (places + 1) / 2, weights / 2
