"""What docs/statistics.md claims of the published scores, against scipy and a reading of the table of our own."""

from __future__ import annotations

import importlib.util
import itertools
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "statistics.md").read_text(encoding="utf-8")


@cache
def statistics() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_statistics", DOCS / "make_statistics.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scores() -> Path:
    path = statistics().reference()
    if path is None:
        pytest.skip("the published scores are not here (set RANVIER_DATA to their sibling)")
    return path


# Read off the published heat maps by hand, axon then myelin: dedicated, generalist.
BY_HAND = {
    "intra": [
        *((0.869, 0.867), (0.781, 0.730), (0.875, 0.880)),
        *((0.844, 0.841), (0.611, 0.631), (0.884, 0.896)),
    ],
    "inter": [
        *((0.836, 0.840), (0.831, 0.827), (0.886, 0.890), (0.976, 0.975)),
        *((0.802, 0.810), (0.785, 0.763), (0.840, 0.845), (0.932, 0.932)),
    ],
    "ood": [(0.824, 0.834), (0.640, 0.697), (0.774, 0.783), (0.604, 0.706)],
}


def by_hand(experiments, classes):
    """Dedicated and generalist scores as two arrays."""
    chosen = []
    for experiment in experiments:
        pairs = BY_HAND[experiment]
        half = len(pairs) // 2
        chosen += (pairs[:half] if "axon" in classes else []) + (
            pairs[half:] if "myelin" in classes else []
        )
    return np.array(chosen).T


GROUPS = statistics().groups()
EACH = pytest.mark.parametrize(
    ("experiments", "classes"), GROUPS, ids=["_".join((*e, *c)) for e, c in GROUPS]
)


@EACH
def test_t_tests_are_scipys(experiments, classes):
    found = statistics().compared(scores(), experiments, classes).t
    dedicated, generalist = by_hand(experiments, classes)
    assert found.n == len(dedicated)
    for side, p in (("two-sided", found.p_two_sided), ("greater", found.p_greater)):
        theirs = stats.ttest_rel(generalist, dedicated, alternative=side)
        assert p == pytest.approx(theirs.pvalue, rel=1e-9)
        assert found.t == pytest.approx(theirs.statistic, rel=1e-9)


@EACH
def test_equivalence_is_scipys(experiments, classes):
    found = statistics().compared(scores(), experiments, classes).equivalence
    dedicated, generalist = by_hand(experiments, classes)
    d = generalist - dedicated
    lower = stats.ttest_1samp(d, -0.02, alternative="greater").pvalue
    upper = stats.ttest_1samp(d, 0.02, alternative="less").pvalue
    assert found.p == pytest.approx(max(lower, upper), rel=1e-9)
    assert (found.conclusion == "equivalent") == (found.p < 0.05)


@EACH
def test_signed_ranks_by_giving_every_sign(experiments, classes):
    found = statistics().compared(scores(), experiments, classes).wilcoxon
    dedicated, generalist = by_hand(experiments, classes)
    d = np.round(1000 * (generalist - dedicated))
    d = d[d != 0]
    ranks = stats.rankdata(np.abs(d))
    seen = ranks[d > 0].sum()
    signs = np.array(list(itertools.product((0, 1), repeat=min(len(d), 14))), dtype=np.int8)
    if len(d) > 14:  # the rest of the signs, in two halves of the enumeration
        rest = np.array(list(itertools.product((0, 1), repeat=len(d) - 14)), dtype=np.int8)
        sums = ((signs @ ranks[:14])[:, None] + (rest @ ranks[14:])[None]).ravel()
    else:
        sums = signs @ ranks
    greater, less = np.mean(sums >= seen), np.mean(sums <= seen)
    assert found.p_greater == pytest.approx(greater)
    assert found.p_two_sided == pytest.approx(min(1, 2 * min(greater, less)))


def test_conclusions_of_the_page():
    found = {
        unit: {
            e: statistics().compared(scores(), e, ("axon", "myelin"), unit).conclusion
            for e in statistics().EXPERIMENTS
        }
        for unit in ("pair", "subject")
    }
    equal = {("inter",), ("intra", "inter")}
    for conclusions in found.values():
        assert {e for e, c in conclusions.items() if c == "equivalent"} == equal
        assert "different beyond the margin" not in conclusions.values()


def test_published_means_cannot_give_the_claimed_p():
    for experiments, classes in GROUPS:
        found = statistics().compared(scores(), experiments, classes)
        ps = [found.t.p_two_sided, found.t.p_greater, found.t.p_less]
        ps += [found.wilcoxon.p_two_sided, found.wilcoxon.p_greater, found.wilcoxon.p_less]
        assert min(abs(p - statistics().CLAIMED) for p in ps) > 0.01
        assert statistics().least_p(found) > 2 * statistics().CLAIMED


def test_no_rounding_gives_a_p_below_the_bound():
    """Unrounded scores at random, and the corners of the box for the eight pairs."""
    rng = np.random.default_rng(0)
    for experiments, classes in GROUPS:
        bound = statistics().least_p(statistics().compared(scores(), experiments, classes))
        both = by_hand(experiments, classes)
        shift = rng.uniform(-0.0005, 0.0005, (200, *both.shape))
        p = stats.ttest_rel(
            (both + shift)[:, 1], (both + shift)[:, 0], axis=1, alternative="greater"
        )
        assert p.pvalue.min() >= bound
    d = np.diff(by_hand(("inter",), ("axon", "myelin")), axis=0)[0]
    corners = d + 0.001 * np.array(list(itertools.product((-1, 1), repeat=8)))
    least = stats.ttest_1samp(corners, 0, axis=1, alternative="greater").pvalue.min()
    found = statistics().compared(scores(), ("inter",), ("axon", "myelin"))
    assert 0.46 < statistics().least_p(found) <= least < 0.5


def test_page_shows_these_tables():
    s, path = statistics(), scores()
    tables = [s.pairs_table(path), s.tests_table(path), s.test_sets_table(path)]
    tables += [s.equivalence_table(path), s.equivalence_table(path, "subject")]
    for table in tables:
        assert "\n".join(s.lines(table)) in PAGE


def test_page_quotes_its_tables():
    found = statistics().compared(scores(), ("inter",), ("axon", "myelin"))
    sets = statistics().compared(scores(), ("inter",), ("axon", "myelin"), "subject")
    text = " ".join(PAGE.split())
    assert (
        f"p = {found.t.p_two_sided:.3f} two-sided and p = {found.t.p_greater:.3f} one-sided" in text
    )
    assert f"p = {found.equivalence.p:.4f}; on four test sets p = {sets.equivalence.p:.4f}" in text
    assert f"gives {found.t.p_two_sided:.3f} (two-sided) and {found.t.p_greater:.3f}" in text
    unpaired = stats.ttest_ind(*by_hand(("inter",), ("axon", "myelin"))).pvalue
    assert f"unpaired, the eight means give {unpaired:.3f}" in text
    assert len(GROUPS) == 15
    ps = [statistics().compared(scores(), e, c).t.p_greater for e, c in GROUPS]
    assert f"range from {min(ps):.3f} to {max(ps):.3f}" in text
    e = sets.equivalence
    assert f"{e.low:.3f} to +{e.high:.3f}".replace("-", "\N{MINUS SIGN}") in text
    assert f"0.98² / (1 + 0.98²) = {1 - 2 * 0.98**2 / (1 + 0.98**2):.3f} Dice" in text
    assert f"{found.t.mean:.5f} Dice".replace("-", "\N{MINUS SIGN}") in text
    assert round(found.sensitivity.detectable_difference, 3) == 0.011


def test_lowest_p_of_the_page():
    rows = statistics().tests_table(scores())[1:]
    columns = (6, 7, 9, 10)
    assert min(float(row[k]) for row in rows for k in columns) == 0.043
    assert f"is 0.043, one of {len(rows) * len(columns)}, for" in " ".join(PAGE.split())


def test_code_of_the_page_runs(capsys):
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1)
    exec(compile(code, "statistics.md", "exec"), {})
    shown = capsys.readouterr().out
    assert "| mean difference (generalist - dedicated) | +0.0020 |" in shown
    assert "Conclusion: equivalent within 0.02" in shown
