"""Elementary functions in float32 without calls or branches, so that loops over them become vectors."""

import numpy as np
from numba import njit

from truffle.kernels.numba_support import FUSE, bits_float, float_bits

_F = np.float32
ZERO, ONE, PI, INVERSE_PI = _F(0), _F(1), _F(np.pi), _F(1 / np.pi)

# Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits of the mantissa.
ROUNDER = _F(1.5 * 2**23)
LOG2_E = _F(1 / np.log(2))
LN_2_HIGH = _F(0.693359375)  # short enough that its products with whole exponents are exact
LN_2_LOW = _F(np.log(2) - 0.693359375)
LOWEST_EXPONENT = _F(-87)
E2, E3, E4, E5, E6 = _F(1 / 2), _F(1 / 6), _F(1 / 24), _F(1 / 120), _F(1 / 720)

# acos(x) = sqrt(1 - x) * polynomial for x in [0, 1], error 2e-8: Abramowitz and Stegun, 4.4.46.
A0, A1, A2, A3 = _F(1.5707963050), _F(-0.2145988016), _F(0.0889789874), _F(-0.0501743046)
A4, A5, A6, A7 = _F(0.0308918810), _F(-0.0170881256), _F(0.0066700901), _F(-0.0012624911)


@njit(fastmath=FUSE)
def exp_below_one(x):
    """e^x for x <= 0, relative error 3e-7; e^-87 for all below."""
    x = LOWEST_EXPONENT if x < LOWEST_EXPONENT else x
    rounded = x * LOG2_E + ROUNDER
    whole = rounded - ROUNDER
    r = x - whole * LN_2_HIGH - whole * LN_2_LOW
    series = ONE + r * (ONE + r * (E2 + r * (E3 + r * (E4 + r * (E5 + r * E6)))))
    return bits_float((float_bits(rounded) << np.uint32(23)) + np.uint32(0x3F800000)) * series


@njit(fastmath=FUSE)
def arc_cosine(x):
    """acos of x in [-1, 1]."""
    a = np.abs(x)
    series = A0 + a * (A1 + a * (A2 + a * (A3 + a * (A4 + a * (A5 + a * (A6 + a * A7))))))
    angle = np.sqrt(ONE - a) * series
    return PI - angle if x < ZERO else angle


@njit(fastmath=FUSE)
def agreement_cell(cosine, cells):
    """Where in a table over agreements from 0 to 1 a cosine falls, 0 to `cells`; 0 for NaN."""
    place = (ONE - arc_cosine(min(max(cosine, -ONE), ONE)) * INVERSE_PI) * _F(cells)
    return place if place > ZERO else ZERO


@njit(fastmath=FUSE)
def interpolate(place, table):
    """The value of a table at a place between its entries."""
    cell = min(np.int32(place), np.int32(len(table) - 2))
    below, above = table[cell], table[cell + 1]
    return below + (place - _F(cell)) * (above - below)
