"""Whether rows of samples and results of images go together, and whether the results are alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ranvier.collected import Collected, Results, may_mean, result_for
from ranvier.errors import InputError
from ranvier.samples import Sample, Samples


def matched(known: Samples, results: Results) -> tuple[list[tuple[Sample, Collected]], list[str]]:
    """Each row with its results, and what does not go together.

    That results which cannot be read are not there is no news, and not said.
    """
    pairs: list[tuple[Sample, Collected]] = []
    problems = []
    taken: dict[str, Sample] = {}
    for row in known.rows:
        found = result_for(row.image, results.found) if row.image else []
        unread = any(may_mean(row.image, stem) for stem in results.unread)
        if row.image and not found and not unread:
            problems.append(f"line {row.line}: no results of image {row.image}")
        if len(found) > 1:
            names = ", ".join(r.name for r in found)
            problems.append(
                f"line {row.line}: image {row.image} may mean any of {names}: "
                "write which, as it stands here"
            )
        if len(found) != 1:
            taken.update((r.name, row) for r in found)
            continue
        first = taken.setdefault(found[0].name, row)
        if first is not row and first.image != row.image:
            problems.append(
                f"line {row.line}: image {row.image} has the results of {first.image} in line "
                f"{first.line}"
            )
        pairs.append((row, found[0]))
    problems += [
        f"no row for the results of {r.name}" for r in results.found if r.name not in taken
    ]
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
        by_unit[result.unit].append(result.name)
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
            by_value.setdefault(repr(r.run.get(key)), []).append(r.name)
        if len(by_value) > 1:
            warnings.append(f"{what}: " + " | ".join(_listed(names) for names in by_value.values()))
    sources: dict[str, list[str]] = {}
    for r in results:
        summary = r.run.get("summary")
        source = summary.get("tissue_source") if isinstance(summary, dict) else None
        sources.setdefault(str(source or "not known"), []).append(r.name)
    if len(sources) > 1:
        listed = " | ".join(f"{source}: {_listed(names)}" for source, names in sources.items())
        warnings.append(
            f"tissue found from different things, so figures of tissue do not compare: {listed}"
        )
    sizes = sorted({r.pixel_size_um for r in results if r.pixel_size_um is not None})
    if len(sizes) > 1:
        warnings.append("different pixel sizes: " + ", ".join(f"{s:g} um" for s in sizes))
    changed = [r.name for r in results if r.changed]
    if changed:
        warnings.append(f"tables changed since they were written: {_listed(changed)}")
    return warnings


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if names[most:] else "")
