"""Whether rows of samples and results of images go together, and whether the results are alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ranvier.collected import Collected, result_for
from ranvier.errors import InputError
from ranvier.samples import Sample, Samples


def matched(
    known: Samples, results: Sequence[Collected]
) -> tuple[list[tuple[Sample, Collected]], list[str]]:
    """Each row with its results, and what does not go together."""
    pairs: list[tuple[Sample, Collected]] = []
    problems = []
    taken: dict[str, Sample] = {}
    for row in known.rows:
        found = result_for(row.image, results) if row.image else []
        if row.image and not found:
            problems.append(f"line {row.line}: no results of image {row.image}")
        if len(found) > 1:
            stems = ", ".join(r.stem for r in found)
            problems.append(f"line {row.line}: image {row.image} may mean any of {stems}")
        if len(found) != 1:
            continue
        first = taken.setdefault(found[0].stem, row)
        if first is not row and first.image != row.image:
            problems.append(
                f"line {row.line}: image {row.image} has the results of {first.image} in line "
                f"{first.line}"
            )
        pairs.append((row, found[0]))
    problems += [f"no row for the results of {r.stem}" for r in results if r.stem not in taken]
    return pairs, problems


def one_unit(results: Sequence[Collected]) -> str:
    """The unit of all.

    Raises
    ------
    InputError
        Some are in pixels and some in micrometres.
    """
    by_unit: dict[str, list[str]] = {"px": [], "um": []}
    for result in results:
        by_unit[result.unit].append(result.stem)
    if all(by_unit.values()):
        raise InputError(
            "some images are in pixels and some in micrometres",
            seen="; ".join(f"{unit}: {', '.join(names)}" for unit, names in by_unit.items()),
            fix="Measure those in pixels again with --pixel-size",
        )
    return "px" if by_unit["px"] else "um"


def shared_columns(results: Sequence[Collected]) -> tuple[list[str], list[str]]:
    """Columns that every table has, and what was left out."""
    every = dict.fromkeys(name for r in results for name in r.table)
    shared = [name for name in every if all(name in r.table for r in results)]
    left = [name for name in every if name not in shared]
    return shared, [f"left out, not in every table: {', '.join(left)}"] if left else []


def clashes(known: Samples, taken: Collection[str]) -> list[str]:
    """Columns of the samples that have the name of a result."""
    return [
        f"column {name} has the name of a result" for name in known.extra_columns if name in taken
    ]


def differences(results: Sequence[Collected]) -> list[str]:
    """In what the runs differ, with the names of the images."""
    warnings = []
    for key, what in (
        ("ranvier", "different versions of Ranvier"),
        ("command", "different commands"),
        ("model", "different models"),
        ("settings", "different settings"),
    ):
        by_value: dict[str, list[str]] = {}
        for r in results:
            by_value.setdefault(repr(r.run.get(key)), []).append(r.stem)
        if len(by_value) > 1:
            warnings.append(f"{what}: " + " | ".join(_listed(names) for names in by_value.values()))
    sizes = sorted({r.pixel_size_um for r in results if r.pixel_size_um is not None})
    if len(sizes) > 1:
        warnings.append("different pixel sizes: " + ", ".join(f"{s:g} um" for s in sizes))
    changed = [r.stem for r in results if r.changed]
    if changed:
        warnings.append(f"tables changed since they were written: {_listed(changed)}")
    return warnings


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if names[most:] else "")
