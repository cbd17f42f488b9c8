#!/usr/bin/env python3
"""Prints the coefficient tables of backend/math_*.c (needs mpmath).

    minimax.py [NAME...]        for example: minimax.py exp tanh

Each table is a polynomial of least weighted error (Remez exchange), its
coefficients rounded one after the other to f32 or f64, the later ones fitted
again to what rounding left. The last line of a table tells the error reached.
"""

import sys

import mpmath as mp

mp.mp.dps = 50
TINY = mp.mpf(10) ** -18


def levelled(f, weight, lo, hi, powers):
    """Coefficients of x^powers with equal weighted error at alternating points."""
    n = len(powers)
    points = sorted(
        (lo + hi) / 2 + (hi - lo) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * n + 2))
        for i in range(n + 1)
    )
    best = None
    for _ in range(30):
        system, right = mp.matrix(n + 1, n + 1), mp.matrix(n + 1, 1)
        for i, x in enumerate(points):
            for k, power in enumerate(powers):
                system[i, k] = x**power
            system[i, n] = (-1) ** i / weight(x)
            right[i] = f(x)
        solution = mp.lu_solve(system, right)
        c = [solution[k] for k in range(n)]

        def error(x):
            return weight(x) * (f(x) - sum(a * x**p for a, p in zip(c, powers)))

        peaks = alternating_peaks(error, lo, hi, n)
        worst = max(abs(e) for _, e in peaks)
        if best is None or worst < best[0]:
            best = (worst, c)
        if len(peaks) < n + 1 or worst < abs(solution[n]) * mp.mpf("1.001"):
            break
        points = [x for x, _ in peaks]
    return best[1]


def alternating_peaks(error, lo, hi, n):
    """The n + 1 largest extrema of alternating sign, on a Chebyshev grid."""
    count = 160 * (n + 1)
    grid = [
        (lo + hi) / 2 - (hi - lo) / 2 * mp.cos(mp.pi * i / count)
        for i in range(count + 1)
    ]
    peaks = []
    for x in grid:
        e = error(x)
        if peaks and mp.sign(peaks[-1][1]) == mp.sign(e):
            if abs(e) > abs(peaks[-1][1]):
                peaks[-1] = (x, e)
        else:
            peaks.append((x, e))
    while len(peaks) > n + 1:
        peaks.pop(0 if abs(peaks[0][1]) < abs(peaks[-1][1]) else -1)
    return peaks


def rounded(x, bits):
    with mp.workprec(bits):
        return +x


def fit(f, weight, lo, hi, n, bits):
    lo, hi, c = mp.mpf(lo), mp.mpf(hi), []
    while len(c) < n:

        def rest(x):
            return f(x) - sum(a * x**k for k, a in enumerate(c))

        powers = list(range(len(c), n))
        c.append(rounded(levelled(rest, weight, lo, hi, powers)[0], bits))
    worst = max(
        abs(weight(x) * (f(x) - sum(a * x**k for k, a in enumerate(c))))
        for x in (lo + (hi - lo) * i / 2000 for i in range(2001))
    )
    return c, worst


def odd_part(g, first):
    """(g(x) - x) / x^3 as a function of x^2, first = its value at 0, and the
    weight that makes its error the relative error of g."""

    def f(z):
        if z < TINY:
            return mp.mpf(first)
        x = mp.sqrt(z)
        return (g(x) - x) / x**3

    def weight(z):
        x = mp.sqrt(z)
        return TINY if z < TINY else z * x / g(x)

    return f, weight


def exp_part():
    def f(r):
        small = abs(r) < mp.mpf(10) ** -12
        return mp.mpf(1) / 2 + r / 6 if small else (mp.expm1(r) - r) / r**2

    return f, lambda r: abs(r) if abs(r) < TINY else abs(r**2 / mp.expm1(r))


def cos_part():
    def f(z):
        if z < mp.mpf(10) ** -15:
            return mp.mpf(1) / 24 - z / 720
        return (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2

    return f, lambda z: z**2 / mp.cos(mp.sqrt(z)) + TINY


def log_part():
    def f(x):
        if abs(x) < mp.mpf(10) ** -12:
            return mp.mpf(1) / 3 - x / 4
        return (mp.log1p(x) - x + x * x / 2) / x**3

    return f, lambda x: TINY if abs(x) < TINY else abs(x**3 / mp.log1p(x))


def atanh_part(terms):
    """What is left of 2 atanh(s) / s after its first terms, over s^(2 terms)."""

    def f(z):
        if z < mp.mpf(10) ** -10:
            return sum(2 * z**k / (2 * (k + terms) + 1) for k in range(3))
        s = mp.sqrt(z)
        known = sum(2 * z**k / (2 * k + 1) for k in range(terms))
        return (2 * mp.atanh(s) / s - known) / z**terms

    def weight(z):
        s = mp.sqrt(z)
        return TINY if z < TINY else s * z**terms / (2 * mp.atanh(s))

    return f, weight


def erf_part():
    def f(z):
        if z < TINY:
            return 2 / mp.sqrt(mp.pi) * (1 - z / 3) - 1
        return mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1

    def weight(z):
        x = mp.sqrt(z)
        return mp.sqrt(mp.pi) / 2 if z < TINY else x / mp.erf(x)

    return f, weight


def erfc_part():
    return (
        lambda x: mp.log(mp.erfc(x)),
        lambda x: mp.erfc(x) / mp.erf(x),
    )


HALF_LN2 = mp.log(2) / 2 * mp.mpf("1.0005")
EIGHTH_TURN = (mp.pi / 4 * mp.mpf("1.0005")) ** 2
LOG_LO, LOG_HI = (
    mp.mpf("1.0001") * x for x in (mp.sqrt(mp.mpf("0.5")) - 1, mp.sqrt(2) - 1)
)
LARGEST_S = (LOG_HI / (2 + LOG_HI)) ** 2

# name: (function and weight, interval, number of coefficients), f32 and f64
TABLES = {
    "exp": [(exp_part(), -HALF_LN2, HALF_LN2, 5), (exp_part(), -HALF_LN2, HALF_LN2, 11)],
    "tanh": [(odd_part(mp.tanh, -1 / mp.mpf(3)), 0, 1, n) for n in (7, 15)],
    "sinh": [(odd_part(mp.sinh, 1 / mp.mpf(6)), 0, 1, n) for n in (4, 7)],
    "log": [(log_part(), LOG_LO, LOG_HI, 9), (atanh_part(1), 0, LARGEST_S, 7)],
    "tail": [(atanh_part(2), 0, LARGEST_S, n) for n in (4, 8)],
    "sin": [(odd_part(mp.sin, -1 / mp.mpf(6)), 0, EIGHTH_TURN, n) for n in (3, 6)],
    "cos": [(cos_part(), 0, EIGHTH_TURN, n) for n in (3, 6)],
    "tan": [None, (odd_part(mp.tan, 1 / mp.mpf(3)), 0, EIGHTH_TURN, 14)],
    "asin": [(odd_part(mp.asin, 1 / mp.mpf(6)), 0, mp.mpf("0.2501"), n) for n in (5, 12)],
    "atan": [(odd_part(mp.atan, -1 / mp.mpf(3)), 0, 1, n) for n in (9, 19)],
    "small": [(erf_part(), 0, 1, n) for n in (6, 12)],
    "large": [(erfc_part(), 1, 4, 8), (erfc_part(), 1, 6, 18)],
}


def main():
    for name in sys.argv[1:] or TABLES:
        for bits, table in zip((24, 53), TABLES[name]):
            if table is None:
                continue
            (f, weight), lo, hi, n = table
            c, worst = fit(f, weight, lo, hi, n, bits)
            kind, suffix = ("float", "f") if bits == 24 else ("double", "")
            print(f"static const {kind} {name}_f{32 if bits == 24 else 64}[] = {{")
            print("\n".join(f"    {float(a).hex()}{suffix}," for a in c))
            print(f"}}; /* 2^{float(mp.log(worst, 2)):.1f} */", flush=True)


if __name__ == "__main__":
    main()
