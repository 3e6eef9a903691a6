"""Figures of a comparison in words: rows of a table, and sentences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ranvier._paired_tests import DIFFERENT, EQUIVALENT

if TYPE_CHECKING:
    from ranvier.comparison import Comparison

__all__ = ["rows", "sentences"]

_FEW = 10
"""Subjects of a source below which percentile intervals are too narrow by 5 % and more."""


def rows(found: Comparison) -> tuple[tuple[str, str], ...]:
    """Name and value of every figure."""
    t, w, e, s, b = (
        found.t,
        found.wilcoxon,
        found.equivalence,
        found.sensitivity,
        found.bootstrap,
    )
    outer, inner = _levels(found)
    other, one = found.settings.names[1], found.settings.names[0]
    return (
        ("pairs, subjects, sources", f"{found.pairs}, {found.subjects}, {found.sources}"),
        ("pairs left out", f"{found.dropped}"),
        ("units of the tests", _some(t.n, found.settings.unit)),
        (f"mean difference ({other} - {one})", _signed(t.mean)),
        ("median difference", _signed(t.median)),
        ("standard deviation", _number(t.sd)),
        (f"{outer} % confidence interval", _interval(t.low, t.high)),
        ("paired t-test", f"t = {_short(t.t)}, df = {t.df}"),
        ("p, two-sided", _p(t.p_two_sided)),
        (f"p, {other} better", _p(t.p_greater)),
        (f"p, {one} better", _p(t.p_less)),
        ("d_z", _short(t.d_z)),
        (
            "Wilcoxon W+, W-",
            f"{w.w_plus:g}, {w.w_minus:g} (n = {w.n}, {_some(w.zeros, 'zero')}, {w.method})",
        ),
        ("Wilcoxon p, two-sided", _p(w.p_two_sided)),
        (f"Wilcoxon p, {other} better", _p(w.p_greater)),
        (f"TOST p, margin {e.margin:g}", _p(e.p)),
        (f"{inner} % confidence interval", _interval(e.low, e.high)),
        ("least margin of equivalence", _number(e.least_margin)),
        (f"detectable difference, power {s.power:g}", _number(s.detectable_difference)),
        ("detectable d_z", _short(s.detectable_d_z)),
        ("units to find a difference of the margin", _count(s.units_for_margin)),
        ("units to show equivalence", _count(s.units_for_equivalence)),
        (f"mean by {found.settings.weighting}", _signed(b.mean)),
        (f"{outer} % bootstrap interval, percentile", _interval(b.low, b.high)),
        ("conclusion (TOST)", e.conclusion),
        ("conclusion (bootstrap)", b.conclusion),
    )


def sentences(found: Comparison) -> tuple[str, ...]:
    """What was compared, what was found, what may be concluded."""
    parts = (_compared, _left_out, _tested, _ranked, _bounded, _able, _resampled, _concluded)
    return tuple(text for part in parts for text in part(found))


def _compared(found: Comparison) -> list[str]:
    one, other = found.settings.names
    text = (
        f"{_some(found.pairs, 'pair')} of {_some(found.subjects, 'subject')} from "
        f"{_some(found.sources, 'source')}; "
        f"differences are {other} - {one}, above 0 {other} is better."
    )
    if found.settings.unit == "subject":
        text += " Pairs of a subject are averaged."
    elif found.pairs > found.subjects:
        text += (
            " Every pair counts as independent, though subjects have several: p-values are too "
            "small if pairs of a subject are alike."
        )
    return [text]


def _left_out(found: Comparison) -> list[str]:
    if not found.dropped:
        return []
    text = f"Left out, as a score is missing: {_some(found.dropped, 'pair')}."
    if found.half_dropped:
        text += (
            f" Of them, {_some(found.half_dropped, 'pair')} with one score only: one model found a "
            "class that is nowhere, and the other did not, which no difference tells. Look there."
        )
    return [text]


def _tested(found: Comparison) -> list[str]:
    t, (outer, _) = found.t, _levels(found)
    if t.n < 2:
        return [
            f"With {_some(t.n, found.settings.unit)} nothing is known of the spread: no test, no interval."
        ]
    text = (
        f"Mean difference {_signed(t.mean)}, {outer} % confidence interval "
        f"{_interval(t.low, t.high)}; paired t({t.df}) = {_short(t.t)}, {_p_is(t.p_two_sided)} "
        f"two-sided and {_p_is(t.p_greater)} one-sided ({found.settings.names[1]} better); "
        f"d_z = {_short(t.d_z)}."
    )
    if t.sd == 0:
        text += (
            " All differences are equal, so this t-test rests on no spread at all: trust it little."
        )
    return [text]


def _ranked(found: Comparison) -> list[str]:
    w = found.wilcoxon
    if not w.n:
        return []
    text = f"Wilcoxon signed-rank test ({w.method}, n = {w.n}): {_p_is(w.p_two_sided)} two-sided."
    if w.zeros:
        text += f" Left out: {_some(w.zeros, 'difference')} of 0."
    if w.ties:
        text += f" With equal size, and so with their mean rank: {_some(w.ties, 'difference')}."
    least = 2.0 ** (1 - w.n)
    if w.method == "exact" and least >= found.settings.alpha:
        text += f" So few can reach no p below {_p(least)}, whatever they are."
    return [text]


def _bounded(found: Comparison) -> list[str]:
    e, (_, inner) = found.equivalence, _levels(found)
    if math.isnan(e.low):
        return []
    return [
        f"Equivalence within {e.margin:g} (TOST): {_p_is(e.p)}, {inner} % confidence interval "
        f"{_interval(e.low, e.high)}; it would hold for any margin above {_number(e.least_margin)}."
    ]


def _able(found: Comparison) -> list[str]:
    s = found.sensitivity
    if math.isnan(s.detectable_d_z) or found.t.sd == 0:
        return []
    margin, units = found.settings.margin, found.settings.unit + "s"
    return [
        f"With {_some(found.t.n, found.settings.unit)} a two-sided t-test finds a difference of "
        f"{_number(s.detectable_difference)} (d_z {_short(s.detectable_d_z)}) with probability "
        f"{s.power:g}, and smaller ones less often. To find one of {margin:g} takes "
        f"{_count(s.units_for_margin)} {units}, to show equivalence where there is no difference "
        f"{_count(s.units_for_equivalence)}."
    ]


def _resampled(found: Comparison) -> list[str]:
    b, settings = found.bootstrap, found.settings
    if not found.pairs:
        return []
    if math.isnan(b.low):
        return ["No source has two subjects: there is no bootstrap of subjects."]
    outer, inner = _levels(found)
    weights = "each source" if settings.weighting == "sources" else "each pair"
    text = (
        f"Mean difference {_signed(b.mean)} with {weights} counted the same; {outer} % interval "
        f"{_interval(b.low, b.high)}, {inner} % {_interval(b.inner_low, b.inner_high)} "
        f"(percentile, {settings.resamples} resamples of subjects within their source, seed "
        f"{settings.seed}): {b.conclusion}."
    )
    if b.lone:
        text += f" Of one subject only, and so without spread: {', '.join(b.lone)}; nothing is concluded."
    elif b.fewest < _FEW:
        narrow = 100 * (1 - math.sqrt(1 - 1 / b.fewest))
        text += (
            f" The smallest source has {b.fewest} subjects: with so few, intervals are too narrow "
            f"by {narrow:.0f} % or more."
        )
    return [text]


def _concluded(found: Comparison) -> list[str]:
    one, other = found.settings.names
    margin, alpha = found.settings.margin, found.settings.alpha
    differs = found.t.p_two_sided < alpha
    better = f"{other} is better" if found.t.mean > 0 else f"{one} is better"
    if found.conclusion == EQUIVALENT:
        text = f"Conclusion: equivalent within {margin:g}"
        text += f"; {better}, by less than the margin." if differs else "; no difference is shown."
    elif found.conclusion == DIFFERENT:
        text = f"Conclusion: different beyond the margin; {better} by more than {margin:g}."
    elif differs:
        text = (
            f"Conclusion: not shown to be equivalent; {better}, but by more or by less than "
            f"{margin:g} is not shown."
        )
    else:
        text = (
            f"Conclusion: not shown to be equivalent within {margin:g}, and no difference is shown "
            "either: the data leave both open."
        )
    return [text]


def _levels(found: Comparison) -> tuple[str, str]:
    alpha = found.settings.alpha
    return f"{100 * (1 - alpha):g}", f"{100 * (1 - 2 * alpha):g}"


def _some(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _number(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.4f}"


def _signed(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:+.4f}"


def _short(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.2f}"


def _p(value: float) -> str:
    if math.isnan(value):
        return "not defined"
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _p_is(value: float) -> str:
    text = _p(value)
    return f"p = {text}" if text[0].isdigit() else f"p {text}"


def _interval(low: float, high: float) -> str:
    return "not defined" if math.isnan(low) else f"{low:+.4f} to {high:+.4f}"


def _count(value: int | None) -> str:
    return "not defined or above a million" if value is None else f"{value}"
