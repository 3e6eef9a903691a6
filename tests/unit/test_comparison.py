"""Comparisons against scipy, enumeration, a bootstrap written otherwise, and simulation."""

from __future__ import annotations

import itertools
import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ranvier._bootstrap import bootstrap
from ranvier._paired_tests import EXACT_UP_TO, equivalence, paired_t, signed_rank
from ranvier._power import equivalence_power, sensitivity, t_power
from ranvier.comparison import Comparison, ComparisonSettings, Pair, compare, dedicated_pairs
from ranvier.errors import InputError, SettingsError

NAN, INF = math.nan, math.inf
PAIRWISE = ComparisonSettings(unit="pair")
PUBLISHED = [0.004, -0.004, 0.004, -0.001, 0.008, -0.022, 0.005, 0.0]


def pairs_of(
    differences: list[float], *, source: str = "SEM1", subjects: int | None = None
) -> list[Pair]:
    """Pairs with these differences, of as many subjects as there are pairs or of so many in turn."""
    count = subjects or len(differences)
    return [
        Pair(source, f"sub-{i % count}", f"im-{i}", "dice_axon", 0.5, 0.5 + d)
        for i, d in enumerate(differences)
    ]


def of(differences: list[float], **changes) -> Comparison:
    return compare(pairs_of(differences), settings=replace(PAIRWISE, resamples=200, **changes))


whole = st.integers(-5, 5).map(lambda k: k / 100)


# Student


@pytest.mark.parametrize("n", [2, 3, 8, 40])
def test_t_is_scipys(n):
    rng = np.random.default_rng(n)
    one, other = rng.uniform(0.5, 0.9, (2, n))
    found = compare(
        [
            Pair("a", str(i), "", "dice", x, y)
            for i, (x, y) in enumerate(zip(one, other, strict=True))
        ]
    ).t
    for side, p in (
        ("two-sided", found.p_two_sided),
        ("greater", found.p_greater),
        ("less", found.p_less),
    ):
        theirs = stats.ttest_rel(other, one, alternative=side)
        assert (found.t, p) == (pytest.approx(theirs.statistic), pytest.approx(theirs.pvalue))
    interval = stats.ttest_rel(other, one).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.d_z == pytest.approx((other - one).mean() / (other - one).std(ddof=1))
    assert found.median == pytest.approx(np.median(other - one))


def test_t_by_hand():
    found = of([0.01, 0.02, 0.03]).t
    assert (found.mean, found.sd, found.df) == (pytest.approx(0.02), pytest.approx(0.01), 2)
    assert found.t == pytest.approx(2 * math.sqrt(3))
    # Two degrees of freedom: P(T <= t) = 1/2 + t / (2 sqrt(2 + t^2)), with t^2 = 12.
    assert found.p_greater == pytest.approx(0.5 - math.sqrt(12) / (2 * math.sqrt(14)))
    assert found.d_z == pytest.approx(2)


# Wilcoxon


def enumerated(differences):
    """P-values by giving every combination of signs to the ranks, ties sharing their mean rank."""
    kept = [d for d in differences if d]
    ranks = stats.rankdata(np.abs(kept)) if kept else []
    seen = sum(r for r, d in zip(ranks, kept, strict=True) if d > 0)
    sums = [
        sum(r for r, plus in zip(ranks, signs, strict=True) if plus)
        for signs in itertools.product((0, 1), repeat=len(kept))
    ]
    greater, less = np.mean([s >= seen for s in sums]), np.mean([s <= seen for s in sums])
    middle = sum(ranks) / 2
    two = np.mean([abs(s - middle) >= abs(seen - middle) for s in sums])
    return greater, less, two


@given(st.lists(whole, min_size=1, max_size=9))
@settings(max_examples=80, deadline=None)
def test_wilcoxon_is_exact_under_ties_and_zeros(differences):
    found = signed_rank(np.array(differences))
    p = (found.p_greater, found.p_less, found.p_two_sided)
    assert p == pytest.approx(enumerated(differences))
    assert found.zeros == differences.count(0)
    assert found.w_plus + found.w_minus == found.n * (found.n + 1) / 2
    sizes = [abs(d) for d in differences if d]
    assert found.ties == sum(sizes.count(s) > 1 for s in sizes)


@pytest.mark.parametrize("n", [3, 12, 60])
@pytest.mark.parametrize(
    ("side", "name"), [("two-sided", "p_two_sided"), ("greater", "p_greater"), ("less", "p_less")]
)
def test_wilcoxon_is_scipys(n, side, name):
    d = np.random.default_rng(n).normal(0.1, 1, n)
    theirs = stats.wilcoxon(d, alternative=side, method="exact")
    assert getattr(signed_rank(d), name) == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize(
    ("side", "name"), [("two-sided", "p_two_sided"), ("greater", "p_greater"), ("less", "p_less")]
)
def test_wilcoxon_of_many_is_scipys_normal_approximation(side, name):
    d = np.round(np.random.default_rng(1).normal(0.08, 1, EXACT_UP_TO + 60), 1)  # ties and zeros
    found = signed_rank(d)
    assert (found.method, found.zeros > 0, found.ties > 100) == ("normal", True, True)
    theirs = stats.wilcoxon(d, alternative=side, method="asymptotic", correction=True)
    assert getattr(found, name) == pytest.approx(theirs.pvalue)


def test_ties_of_binary_fractions_are_ties():
    pairs = [
        Pair("a", "1", "", "dice", 0.840, 0.845),  # 0.005000000000000004
        Pair("a", "2", "", "dice", 0.875, 0.880),  # 0.0050000000000000044
        Pair("a", "3", "", "dice", 0.930, 0.930),
    ]
    found = compare(pairs).wilcoxon
    assert (found.ties, found.zeros, found.n) == (2, 1, 2)


# Equivalence


@pytest.mark.parametrize("differences", [PUBLISHED, [0.03, 0.05, 0.01], [-0.02, -0.03]])
def test_tost_is_two_tests_of_scipy(differences):
    found = of(differences).equivalence
    lower = stats.ttest_1samp(differences, -0.02, alternative="greater").pvalue
    upper = stats.ttest_1samp(differences, 0.02, alternative="less").pvalue
    assert (found.p_lower, found.p_upper) == (pytest.approx(lower), pytest.approx(upper))
    assert found.p == max(found.p_lower, found.p_upper)
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


@given(st.lists(whole, min_size=2, max_size=8), st.sampled_from([0.005, 0.02, 0.04]))
@settings(max_examples=150, deadline=None)
def test_conclusion_agrees_with_the_p_values(differences, margin):
    t = paired_t(np.array(differences), 0.05)
    found = equivalence(t, margin=margin, alpha=0.05)
    if t.sd == 0:
        return
    beyond = [
        stats.ttest_1samp(differences, margin, alternative="greater").pvalue < 0.025,
        stats.ttest_1samp(differences, -margin, alternative="less").pvalue < 0.025,
    ]
    expected = "equivalent" if found.p < 0.05 else "not shown to be equivalent"
    assert found.conclusion == ("different beyond the margin" if any(beyond) else expected)
    above = equivalence(t, margin=found.least_margin * 1.001, alpha=0.05)
    below = equivalence(t, margin=found.least_margin * 0.999, alpha=0.05)
    assert above.conclusion == "equivalent"
    assert below.conclusion != "equivalent"


def test_levels_hold_at_the_margin_and_at_no_difference():
    rng = np.random.default_rng(3)
    claims = {"equivalent": 0, "different beyond the margin": 0, "found": 0}
    runs = 3000
    for _ in range(runs):
        noise = rng.normal(0, 0.01, 6)
        at_margin = paired_t(noise + 0.02, 0.05)
        conclusion = equivalence(at_margin, margin=0.02, alpha=0.05).conclusion
        claims["found"] += paired_t(noise, 0.05).p_two_sided < 0.05
        if conclusion in claims:
            claims[conclusion] += 1
    three_se = 3 * math.sqrt(0.05 * 0.95 / runs)
    assert claims["equivalent"] / runs == pytest.approx(0.05, abs=three_se)
    assert claims["found"] / runs == pytest.approx(0.05, abs=three_se)
    assert claims["different beyond the margin"] / runs == pytest.approx(0.025, abs=three_se)


# Power


def test_power_of_a_textbook_case():
    assert t_power(0.5, 34, 0.05) == pytest.approx(0.807777, abs=1e-6)  # as G*Power 3 has it
    assert t_power(0.0, 9, 0.05) == pytest.approx(0.05)


@pytest.mark.parametrize(("d_z", "n"), [(0.3, 5), (1.0, 8), (0.2, 100), (1.5, 4), (0.05, 3000)])
def test_power_is_that_of_the_noncentral_t(d_z, n):
    limit = stats.t.ppf(0.975, n - 1)
    theirs = stats.nct.sf(limit, n - 1, d_z * math.sqrt(n)) + stats.nct.sf(
        limit, n - 1, -d_z * math.sqrt(n)
    )
    assert t_power(d_z, n, 0.05) == pytest.approx(theirs, abs=1e-9)


def test_power_of_equivalence_is_what_simulation_finds():
    n, margin, runs = 8, 1.2, 20000
    d = np.random.default_rng(5).normal(0, 1, (runs, n))
    mean, se = d.mean(axis=1), d.std(axis=1, ddof=1) / math.sqrt(n)
    inside = np.abs(mean) + stats.t.ppf(0.95, n - 1) * se < margin
    assert equivalence_power(margin, n, 0.05) == pytest.approx(inside.mean(), abs=0.01)


@pytest.mark.parametrize("n", [2, 3, 8, 50])
def test_detectable_difference_and_numbers_needed(n):
    found = sensitivity(n, 0.03, margin=0.02, alpha=0.05)
    assert t_power(found.detectable_d_z, n, 0.05) == pytest.approx(0.8)
    assert found.detectable_difference == pytest.approx(0.03 * found.detectable_d_z)
    for power, needed in (
        (t_power, found.units_for_margin),
        (equivalence_power, found.units_for_equivalence),
    ):
        assert power(0.02 / 0.03, needed - 1, 0.05) < 0.8 <= power(0.02 / 0.03, needed, 0.05)


def test_numbers_needed_have_an_end():
    assert sensitivity(8, 100.0, margin=0.02, alpha=0.05).units_for_margin is None
    assert sensitivity(8, 0.0, margin=0.02, alpha=0.05).units_for_margin == 2


# Bootstrap

SOURCES = {
    "a": [[0.01], [0.03, 0.05, 0.04]],
    "b": [[-0.02, 0.0], [0.02], [0.06, 0.01]],
}


def as_pairs(sources):
    return [
        Pair(source, f"s{k}", f"i{j}", "dice", 0.5, 0.5 + d)
        for source, subjects in sources.items()
        for k, subject in enumerate(subjects)
        for j, d in enumerate(subject)
    ]


def mean_of(sources, weighting):
    """The mean of images of subjects of sources, spelt out."""
    by_source = [[d for subject in subjects for d in subject] for subjects in sources]
    if weighting == "images":
        every = [d for source in by_source for d in source]
        return sum(every) / len(every)
    return sum(sum(source) / len(source) for source in by_source) / len(by_source)


@pytest.mark.parametrize("weighting", ["sources", "images"])
def test_bootstrap_follows_all_resamples(weighting):
    """All 2^2 x 3^3 equally likely resamples of these subjects, against 20 000 drawn ones."""
    every = [
        mean_of((first, second), weighting)
        for first in itertools.product(SOURCES["a"], repeat=2)
        for second in itertools.product(SOURCES["b"], repeat=3)
    ]
    chosen = ComparisonSettings(weighting=weighting, resamples=20000, alpha=0.2)
    found = compare(as_pairs(SOURCES), settings=chosen).bootstrap
    assert found.mean == pytest.approx(mean_of(SOURCES.values(), weighting))
    for end, share in (
        (found.low, 0.1),
        (found.high, 0.9),
        (found.inner_low, 0.2),
        (found.inner_high, 0.8),
    ):
        assert np.mean([m < end - 1e-9 for m in every]) <= share + 0.01
        assert np.mean([m <= end + 1e-9 for m in every]) >= share - 0.01


@pytest.mark.parametrize("weighting", ["sources", "images"])
def test_bootstrap_is_that_of_a_plain_loop(weighting):
    rng = np.random.default_rng(8)
    sources = {
        name: [
            list(rng.normal(0, 0.02, rng.integers(1, 5)) + rng.normal(0, 0.02)) for _ in range(n)
        ]
        for name, n in (("x", 6), ("y", 12))
    }
    dice = random.Random(4)
    drawn = sorted(
        mean_of([dice.choices(s, k=len(s)) for s in sources.values()], weighting)
        for _ in range(4000)
    )
    chosen = ComparisonSettings(weighting=weighting, resamples=4000)
    found = compare(as_pairs(sources), settings=chosen).bootstrap
    assert (found.low, found.high) == pytest.approx((drawn[100], drawn[3899]), abs=1.2e-3)
    assert (found.inner_low, found.inner_high) == pytest.approx(
        (drawn[200], drawn[3799]), abs=1.2e-3
    )


def test_images_go_with_their_subject():
    """Ten equal images of a subject say no more than one."""
    few = {"a": [[0.01], [0.03], [0.08]]}
    many = {"a": [subject * 10 for subject in few["a"]]}
    once, again = (compare(as_pairs(s)) for s in (few, many))
    assert once.bootstrap.high == pytest.approx(again.bootstrap.high)
    assert once.bootstrap.low == pytest.approx(again.bootstrap.low)
    assert once.t == again.t
    every = compare(as_pairs(many), settings=PAIRWISE)
    assert every.t.p_two_sided < again.t.p_two_sided / 10  # what pseudo-replication would claim


def test_weights_decide_between_sources():
    pairs = pairs_of([0.1] * 2, source="small") + pairs_of([0.0] * 8, source="large")
    even = compare(pairs)
    assert even.bootstrap.mean == pytest.approx(0.05)
    by_images = compare(pairs, settings=ComparisonSettings(weighting="images"))
    assert by_images.bootstrap.mean == pytest.approx(0.02)


def test_same_seed_same_interval_whatever_the_order():
    pairs = as_pairs(SOURCES)
    assert compare(pairs) == compare(pairs[::-1])
    assert compare(pairs) == compare(random.Random(1).sample(pairs, len(pairs)))
    pairs = pairs_of(list(np.random.default_rng(2).normal(0, 0.02, 20)))
    found = [compare(pairs, settings=ComparisonSettings(seed=seed)).bootstrap for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert found[1].low != found[2].low


def test_resamples_drawn_in_parts(monkeypatch):
    parts = {"a": (np.arange(5.0), np.ones(5))}
    common = {"weighting": "sources", "resamples": 1000, "seed": 0, "alpha": 0.05, "margin": 0.02}
    at_once = bootstrap(parts, **common)
    monkeypatch.setattr("ranvier._bootstrap._AT_ONCE", 35)
    assert bootstrap(parts, **common) == at_once


def test_source_of_one_subject_lets_the_bootstrap_conclude_nothing():
    pairs = pairs_of([0.001, 0.002, 0.003] * 5, source="many") + pairs_of([0.001], source="lone")
    found = compare(pairs)
    assert found.bootstrap.lone == ("lone",)
    assert -0.02 < found.bootstrap.low < found.bootstrap.high < 0.02
    assert found.bootstrap.conclusion == "not shown to be equivalent"
    assert any("lone; nothing is concluded" in s for s in found.sentences())
    assert compare(pairs[:-1]).bootstrap.conclusion == "equivalent"


# What could go wrong

EDGES = {  # differences: sd, t, p two-sided, Wilcoxon's, TOST's, conclusion, bootstrap's low
    (): (NAN, NAN, NAN, 1, NAN, "not shown to be equivalent", NAN),
    (0.0,): (NAN, NAN, NAN, 1, NAN, "not shown to be equivalent", NAN),
    (0.5,): (NAN, NAN, NAN, 1, NAN, "not shown to be equivalent", NAN),
    (0.0, 0.0, 0.0): (0, NAN, NAN, 1, 0, "equivalent", 0),
    (0.01, 0.01, 0.01): (0, INF, 0, 0.25, 0, "equivalent", 0.01),
    (-0.01, -0.01): (0, -INF, 0, 0.5, 0, "equivalent", -0.01),
    (0.02, 0.02): (0, INF, 0, 0.5, NAN, "not shown to be equivalent", 0.02),
    (0.1, 0.1, 0.1): (0, INF, 0, 0.25, 1, "different beyond the margin", 0.1),
    (-0.1, -0.1, -0.1): (0, -INF, 0, 0.25, 1, "different beyond the margin", -0.1),
}


@pytest.mark.parametrize("differences", EDGES)
def test_edges(differences):
    sd, t, p, ranked, tost, conclusion, low = EDGES[differences]
    found = of(list(differences))
    for pairs in (pairs_of(list(differences)), pairs_of(list(differences))[::-1]):
        assert compare(pairs).conclusion == conclusion
    assert found.t.n == len(differences)
    assert found.t.sd == pytest.approx(sd, nan_ok=True)
    assert found.t.t == pytest.approx(t, nan_ok=True)
    assert found.t.p_two_sided == pytest.approx(p, nan_ok=True)
    assert found.wilcoxon.p_two_sided == pytest.approx(ranked)
    assert found.equivalence.p == pytest.approx(tost, nan_ok=True)
    assert found.conclusion == conclusion
    assert found.bootstrap.low == pytest.approx(low, nan_ok=True)
    assert found.bootstrap.fewest == len(differences)
    json.dumps(found.figures(), allow_nan=False)
    assert found.markdown("x")


def test_one_subject_of_many_images():
    found = compare(pairs_of([0.01, 0.02, 0.06], subjects=1))
    assert (found.t.n, found.pairs, found.subjects) == (1, 3, 1)
    assert found.t.mean == pytest.approx(0.03)
    assert math.isnan(found.t.p_two_sided)
    assert math.isnan(found.bootstrap.low)
    assert found.sensitivity.units_for_margin is None
    assert any("nothing is known of the spread" in s for s in found.sentences())
    assert any("No source has two subjects" in s for s in found.sentences())


def test_nan_pairs_are_dropped_and_counted():
    scores = [(0.8, 0.9), (0.7, 0.7), (NAN, NAN), (NAN, 0.0), (0.0, NAN)]
    pairs = [Pair("a", f"s{i}", "", "dice", x, y) for i, (x, y) in enumerate(scores)]
    found = compare(pairs)
    assert (found.pairs, found.dropped, found.half_dropped) == (2, 3, 2)
    assert found.t == compare(pairs[:2]).t
    assert found.bootstrap == compare(pairs[:2]).bootstrap
    assert "3 pairs. Of them, 2 pairs with one score only" in found.sentences()[1]


def test_subjects_of_two_sources_are_two():
    pairs = [
        Pair("SEM1", "sub-01", "", "d", 0.5, 0.6),
        Pair("TEM1", "sub-01", "", "d", 0.5, 0.7),
        Pair("TEM1", "sub-02", "", "d", 0.5, 0.9),
    ]
    found = compare(pairs)
    assert (found.subjects, found.sources, found.t.n) == (3, 2, 3)
    assert found.bootstrap.mean == pytest.approx((0.1 + 0.3) / 2)


def test_pairs_of_a_subject_are_averaged():
    found = compare(pairs_of([0.01, 0.05, 0.03, 0.01], subjects=2))
    assert found.t == paired_t(np.array([0.02, 0.03]), 0.05)
    assert compare(pairs_of([0.01, 0.05, 0.03, 0.01], subjects=2), settings=PAIRWISE).t.n == 4


@given(st.lists(whole, min_size=2, max_size=8))
@settings(max_examples=40, deadline=None)
def test_swapping_the_models_mirrors_everything(differences):
    chosen = replace(PAIRWISE, resamples=100)
    pairs = pairs_of(differences)
    there = compare(pairs, settings=chosen)
    back = compare([replace(p, one=p.other, other=p.one) for p in pairs], settings=chosen)
    assert back.conclusion == there.conclusion
    assert back.wilcoxon.p_greater == pytest.approx(there.wilcoxon.p_less)
    assert back.t.p_greater == pytest.approx(there.t.p_less, nan_ok=True)
    assert (back.t.low, back.t.high) == pytest.approx((-there.t.high, -there.t.low))
    ends = (back.bootstrap.inner_low, back.bootstrap.inner_high)
    assert ends == pytest.approx(
        (-there.bootstrap.inner_high, -there.bootstrap.inner_low), abs=0.03
    )


@pytest.mark.parametrize("score", [INF, -INF, "0.8", None, True])
def test_scores_that_are_none(score):
    with pytest.raises(InputError, match=r"SEM1 / 01 / im, dice_axon: .*number"):
        Pair("SEM1", "01", "im", "dice_axon", 0.8, score)


def test_scores_of_numpy():
    assert compare([Pair("a", "b", "c", "d", np.float32(0.5), np.int64(1))]).t.mean == 0.5


def test_something_scored_twice():
    pair = Pair("SEM1", "01", "im", "dice_axon", 0.8, 0.9)
    with pytest.raises(InputError, match="im, dice_axon: scored twice"):
        compare([pair, replace(pair, other=0.7)])
    assert compare([pair, replace(pair, metric="dice_myelin")]).pairs == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("margin", 0.0),
        ("margin", NAN),
        ("margin", INF),
        ("alpha", 0.5),
        ("alpha", 0.0),
        ("unit", "image"),
        ("weighting", "subjects"),
        ("resamples", 99),
        ("resamples", 1e4),
        ("seed", -1),
        ("power", 1.0),
        ("power", 0.04),
        ("names", ("a", "a")),
        ("names", ("", "a")),
    ],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(SettingsError, match=f"comparison, {name}: must be"):
        ComparisonSettings(**{name: value})


# Heat maps

TABLE = {
    ("BF", "BF_AGG"): 0.836,
    ("BF", "FULL_AGG"): 0.840,
    ("SEM1", "SEM1"): 0.886,
    ("SEM1", "FULL_AGG"): 0.890,
    ("SEM1", "BF_AGG"): 0.117,
    ("SEM2", "SEM1"): 0.8,
}


def test_dedicated_pairs_take_the_two_cells_of_each_test_set():
    own = {"SEM1": "SEM1", "BF": "BF_AGG"}
    pairs = dedicated_pairs(TABLE, dedicated=own, generalist="FULL_AGG", metric="dice_axon")
    assert pairs == (
        Pair("SEM1", "SEM1", "mean", "dice_axon", 0.886, 0.890),
        Pair("BF", "BF", "mean", "dice_axon", 0.836, 0.840),
    )
    found = compare(pairs, settings=PAIRWISE)
    assert found.t.mean == pytest.approx(0.004)


def test_dedicated_pairs_list_what_is_missing():
    with pytest.raises(InputError, match=r"seen: FULL_AGG on SEM2, X on Y, FULL_AGG on Y"):
        dedicated_pairs(TABLE, dedicated={"SEM2": "SEM1", "Y": "X"}, generalist="FULL_AGG")
    with pytest.raises(InputError, match=r"BF: the generalist cannot be compared with itself"):
        dedicated_pairs(TABLE, dedicated={"BF": "FULL_AGG"}, generalist="FULL_AGG")


# Words


def test_rows_and_figures_tell_the_same():
    found = of(PUBLISHED, names=("dedicated", "generalist"))
    shown, figures = dict(found.rows()), found.figures()
    assert shown["p, two-sided"] == f"{figures['t_p_two_sided']:.4f}" == "0.8278"
    assert shown["mean difference (generalist - dedicated)"] == f"{figures['t_mean']:+.4f}"
    assert shown["Wilcoxon W+, W-"] == "17, 11 (n = 7, 1 zero, exact)"
    assert shown["conclusion (TOST)"] == figures["equivalence_conclusion"] == "equivalent"
    assert figures["margin"] == 0.02
    assert figures["names"] == ["dedicated", "generalist"]
    assert not any(isinstance(v, dict) for v in figures.values())
    lines = found.markdown("Title")
    assert lines[0] == "### Title"
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == len(found.rows()) + 2
    assert {line.count("|") for line in table} == {3}
    assert lines[-len(found.sentences()) :] == tuple(f"- {s}" for s in found.sentences())


CONCLUSIONS = {
    (0.001, -0.001, 0.002, -0.002): "equivalent within 0.02; no difference is shown.",
    (
        0.004,
        0.005,
        0.006,
        0.005,
    ): "equivalent within 0.02; other is better, by less than the margin.",
    (-0.004, -0.005, -0.006): "equivalent within 0.02; one is better, by less than the margin.",
    (0.1, 0.11, 0.09, 0.1): "different beyond the margin; other is better by more than 0.02.",
    (-0.1, -0.11, -0.09): "different beyond the margin; one is better by more than 0.02.",
    (0.01, 0.03, 0.02, 0.02): "not shown to be equivalent; other is better, but by more or by less",
    (0.1, -0.1, 0.05): "no difference is shown either: the data leave both open.",
}


@pytest.mark.parametrize("differences", CONCLUSIONS)
def test_conclusions_in_words(differences):
    last = of(list(differences)).sentences()[-1]
    assert last.startswith("Conclusion: ")
    assert CONCLUSIONS[differences] in last


def test_sentences_warn_where_they_must():
    text = " ".join(of([0.01] * 4).sentences())
    assert "no spread at all" in text
    assert "can reach no p below 0.1250" in text
    assert "4 subjects: with so few, intervals are too narrow by 13 % or more" in text
    assert "can reach" not in " ".join(of([0.01, 0.02] * 3).sentences())  # 2 / 2^6 is below 0.05
    pooled = compare(pairs_of([0.01, 0.02] * 3, subjects=2), settings=PAIRWISE).sentences()[0]
    assert "too small if pairs of a subject are alike" in pooled
    plenty = compare(pairs_of(list(np.linspace(0, 0.01, 12))))
    assert "too narrow" not in " ".join(plenty.sentences())
    assert "Pairs of a subject are averaged." in plenty.sentences()[0]
