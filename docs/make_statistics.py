"""Print the tables of docs/statistics.md: python docs/make_statistics.py."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from scipy import stats

from ranvier._bootstrap import bootstrap
from ranvier._paired_tests import equivalence, paired_t
from ranvier.comparison import Comparison, ComparisonSettings, Pair, compare, dedicated_pairs

DEDICATED: Mapping[str, Mapping[str, str]] = {
    "intra": {"BF1_rat": "BF1_rat", "BF2_rabbit": "BF2_rabbit", "BF3_human": "BF3_human"},
    "inter": {"BF": "BF_AGG", "CARS1": "CARS1", "SEM1": "SEM1", "TEM1": "TEM1"},
    "ood": {"SEM2_human": "SEM1", "TEM2_macaque": "TEM1"},
}
"""By experiment, which model is dedicated to a test set; of those outside, to its modality."""
GENERALIST = {"intra": "BF_AGG", "inter": "FULL_AGG", "ood": "FULL_AGG"}
CLASSES = ("axon", "myelin")
EXPERIMENTS = (("intra",), ("inter",), ("intra", "inter"), ("ood",), ("intra", "inter", "ood"))
ROUNDING = 0.0005
"""Published scores have three decimals."""
CLAIMED = 0.03077
"""The p-value in the abstract of the paper."""


def reference() -> Path | None:
    """The published scores, or None where they are absent."""
    data = os.environ.get("RANVIER_DATA", Path(__file__).parents[2] / "shared" / "data")
    path = Path(data).parent / "reference" / "paper_dice.csv"
    return path if path.is_file() else None


def published(path: Path, experiments: Iterable[str], classes: Iterable[str]) -> list[Pair]:
    """Pairs of published scores."""
    with path.open(newline="") as file:
        scores = {
            (row["experiment"], row["class"], row["test_set"], row["trained_on"]): row["dice"]
            for row in csv.DictReader(file)
        }
    pairs: list[Pair] = []
    for experiment, name in product(experiments, classes):
        chosen = {k[2:]: float(v) for k, v in scores.items() if k[:2] == (experiment, name)}
        pairs += dedicated_pairs(
            chosen,
            dedicated=DEDICATED[experiment],
            generalist=GENERALIST[experiment],
            metric=f"dice_{name}",
        )
    return pairs


def groups() -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Experiments and classes that are compared together."""
    return [(e, c) for e in EXPERIMENTS for c in (("axon",), ("myelin",), CLASSES)]


def compared(
    path: Path, experiments: Sequence[str], classes: Sequence[str], unit: str = "pair"
) -> Comparison:
    """Compare the dedicated models with the generalist as the page does."""
    settings = ComparisonSettings(unit=unit, names=("dedicated", "generalist"), resamples=100)  # type: ignore[arg-type]
    return compare(published(path, experiments, classes), settings=settings)


def least_p(found: Comparison) -> float:
    """Bound below of the one-sided p-value (generalist better) that any rounding of the scores could hide.

    Two scores round a difference by at most r = 2 ROUNDING, so the mean by r, and the standard deviation by
    r sqrt(n / (n - 1)), the largest norm of such a change.
    """
    t, r = found.t, 2 * ROUNDING
    change = r * math.sqrt(t.n / (t.n - 1))
    mean = t.mean + r
    sd = max(t.sd - change, 0) if mean > 0 else t.sd + change
    return float(stats.t.sf(mean / sd * math.sqrt(t.n), t.df)) if sd else 0.0


# Tables: a header and rows.


def pairs_table(path: Path) -> list[list[str]]:
    """Which pairs go in."""
    rows = [
        [
            "experiment",
            "class",
            "test set",
            "dedicated model",
            "its Dice",
            "generalist",
            "its Dice",
            "difference",
        ]
    ]
    for experiment, name in product(DEDICATED, CLASSES):
        for pair in published(path, [experiment], [name]):
            model, generalist = DEDICATED[experiment][pair.source], GENERALIST[experiment]
            scores = [model, f"{pair.one:.3f}", generalist, f"{pair.other:.3f}"]
            rows.append([experiment, name, pair.source, *scores, f"{pair.other - pair.one:+.3f}"])
    return rows


def _named(experiments: Sequence[str], classes: Sequence[str]) -> list[str]:
    return [" + ".join(experiments), " + ".join(classes)]


def tests_table(path: Path) -> list[list[str]]:
    """T and Wilcoxon, each pair independent."""
    head = [
        "experiment",
        "class",
        "n",
        "mean difference",
        "SD",
        "t",
        "p, two-sided",
        "p, generalist better",
    ]
    head += ["least p rounding allows", "Wilcoxon p, two-sided", "Wilcoxon p, generalist better"]
    rows = [head]
    for experiments, classes in groups():
        found = compared(path, experiments, classes)
        t, w = found.t, found.wilcoxon
        row = [
            f"{t.n}",
            f"{t.mean:+.4f}",
            f"{t.sd:.4f}",
            f"{t.t:+.2f}",
            f"{t.p_two_sided:.3f}",
            f"{t.p_greater:.3f}",
        ]
        row += [f"{least_p(found):.3f}", f"{w.p_two_sided:.3f}", f"{w.p_greater:.3f}"]
        rows.append([*_named(experiments, classes), *row])
    return rows


def equivalence_table(path: Path, unit: str = "pair") -> list[list[str]]:
    """TOST with the margin of 0.02, and what so many units could have found."""
    rows = [
        [
            "experiment",
            "class",
            "n",
            "90 % interval of the mean",
            "TOST p",
            "holds above",
            "detectable difference",
        ]
    ]
    rows[0] += ["conclusion"]
    for experiments, classes in groups():
        if unit == "subject" and len(classes) < 2:
            continue  # with one class, test sets are the pairs
        found = compared(path, experiments, classes, unit)
        e, s = found.equivalence, found.sensitivity
        row = [
            f"{found.t.n}",
            f"{e.low:+.4f} to {e.high:+.4f}",
            f"{e.p:.4f}",
            f"{e.least_margin:.4f}",
        ]
        row += [f"{s.detectable_difference:.4f}", e.conclusion]
        rows.append([*_named(experiments, classes), *row])
    return rows


def test_sets_table(path: Path) -> list[list[str]]:
    """The same tests with axon and myelin of a test set averaged."""
    rows = [
        [
            "experiment",
            "n",
            "mean difference",
            "t",
            "p, two-sided",
            "p, generalist better",
            "Wilcoxon p, two-sided",
        ]
    ]
    for experiments in EXPERIMENTS:
        found = compared(path, experiments, CLASSES, "subject")
        t = found.t
        row = [
            f"{t.n}",
            f"{t.mean:+.4f}",
            f"{t.t:+.2f}",
            f"{t.p_two_sided:.3f}",
            f"{t.p_greater:.3f}",
        ]
        rows.append([" + ".join(experiments), *row, f"{found.wilcoxon.p_two_sided:.3f}"])
    return rows


# What the methods do with data whose truth is known.


def levels_table(runs: int = 4000) -> list[list[str]]:
    """How often they claim what is not so: normal differences with SD 0.01."""
    rows = [
        ["n", "t-test finds a difference, none there", "TOST shows equivalence, mean at the margin"]
    ]
    rows[0] += ["equivalence shown, no difference there"]
    generator = np.random.default_rng(0)
    for n in (3, 4, 8, 20):
        hits = np.zeros(3)
        for _ in range(runs):
            noise = generator.normal(0, 0.01, n)
            none, edge = paired_t(noise, 0.05), paired_t(noise + 0.02, 0.05)
            claims = [equivalence(t, margin=0.02, alpha=0.05).p < 0.05 for t in (edge, none)]
            hits += [none.p_two_sided < 0.05, *claims]
        rows.append([f"{n}", *(f"{100 * share:.1f} %" for share in hits / runs)])
    return rows


def coverage_table(runs: int = 1000) -> list[list[str]]:
    """How often 95 % intervals hold the true mean: normal subjects of one source."""
    rows = [["subjects", "bootstrap, percentile", "t interval", "sqrt((k - 1) / k)"]]
    generator = np.random.default_rng(0)
    common = {"resamples": 1000, "alpha": 0.05, "margin": 0.02}
    for k in (2, 3, 5, 10, 20, 40):
        hits = np.zeros(2)
        for seed in range(runs):
            d = generator.normal(0, 0.01, k)
            found = bootstrap({"a": (d, np.ones(k))}, weighting="sources", seed=seed, **common)  # type: ignore[arg-type]
            t = paired_t(d, 0.05)
            hits += [found.low <= 0 <= found.high, t.low <= 0 <= t.high]
        shares = [f"{100 * share:.0f} %" for share in hits / runs]
        rows.append([f"{k}", *shares, f"{math.sqrt(1 - 1 / k):.2f}"])
    return rows


def replicates_table(runs: int = 2000) -> list[list[str]]:
    """How often a t-test at 5 % finds a difference that is not there: 8 subjects, images of one are alike."""
    rows = [
        [
            "correlation of images of a subject",
            "images of each",
            "images as units",
            "subjects as units",
        ]
    ]
    generator = np.random.default_rng(0)
    for alike, images in ((0.0, 10), (0.3, 3), (0.3, 10), (0.6, 10)):
        hits = np.zeros(2)
        for _ in range(runs):
            own = generator.normal(0, math.sqrt(alike), (8, 1))
            d = own + generator.normal(0, math.sqrt(1 - alike), (8, images))
            hits += [
                paired_t(part, 0.05).p_two_sided < 0.05 for part in (d.ravel(), d.mean(axis=1))
            ]
        rows.append([f"{alike:g}", f"{images}", *(f"{100 * share:.1f} %" for share in hits / runs)])
    return rows


def lines(table: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    head, *rows = ("| " + " | ".join(row) + " |" for row in table)
    return [head, "|" + " --- |" * len(table[0]), *rows]


def main() -> None:
    """Print every table."""
    path = reference()
    if path is None:
        print("No published scores here: set RANVIER_DATA to the sibling of their folder.")
    else:
        for unit, table in (
            ("pairs", pairs_table),
            ("tests", tests_table),
            ("equivalence", equivalence_table),
        ):
            print("", f"### {unit}", *lines(table(path)), sep="\n")
        print("", "### test sets", *lines(test_sets_table(path)), sep="\n")
        print("", *lines(equivalence_table(path, "subject")), sep="\n")
    for title, drawn in (
        ("levels", levels_table),
        ("coverage", coverage_table),
        ("replicates", replicates_table),
    ):
        print("", f"### {title}", *lines(drawn()), sep="\n")


if __name__ == "__main__":
    main()
