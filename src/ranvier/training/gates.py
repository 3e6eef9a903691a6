"""Whether what a cheaper arithmetic finds is still what f32 finds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.assessment import Agreement, assess
from ranvier.backends import Precision, bf16_is_native
from ranvier.bundle import open_bundle
from ranvier.datasets.annotated import Annotated
from ranvier.errors import BundleError, SettingsError
from ranvier.evaluation import confusion, scores
from ranvier.inference import InferenceSettings, load_model, segment
from ranvier.micrograph import CLASS_NAMES, Micrograph

REFERENCE: Precision = "f32"
_DICE = tuple(f"dice_{name}" for name in CLASS_NAMES[1:])


@dataclass(frozen=True)
class GateSettings:
    """How much worse than f32 another precision may be.

    Attributes
    ----------
    dice_drop
        Largest drop of the mean Dice of a source and class.
    g_ratio_bias
        Largest mean difference, either way, of the g-ratio of fibres that both found.
    images_per_source
        At most so many, evenly spread over those that are given.
    inference
        How images are shown to the network: as they are by default. With zoom ``auto`` as f32 has it. Every axon
        counts by default: one that is left out for its closure in one precision alone, by a hair, says nothing of it.
    """

    dice_drop: float = 0.002
    g_ratio_bias: float = 0.002
    images_per_source: int = 8
    inference: InferenceSettings = field(
        default_factory=lambda: InferenceSettings(zoom=1.0).with_every_axon()
    )

    def __post_init__(self) -> None:
        for name in ("dice_drop", "g_ratio_bias"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise SettingsError(f"{name} must be 0 or more", where="gates", seen=value)
        if self.images_per_source < 1:
            raise SettingsError(
                "at least one image of each source", where="gates", seen=self.images_per_source
            )


@dataclass(frozen=True)
class Gates:
    """What the gates found.

    Attributes
    ----------
    settings
        The limits.
    images
        Names by source.
    results
        By precision, for model.json: ``skipped`` with the reason, or ``passed``, ``failures`` (in words) and
        ``sources``: per source the Dice of f32, of the precision and the drop, and the g-ratio's bias with the number
        of fibres.
    """

    settings: GateSettings
    images: Mapping[str, tuple[str, ...]]
    results: Mapping[str, Mapping[str, Any]]

    @property
    def failing(self) -> tuple[str, ...]:
        """Precisions that are over a limit."""
        return tuple(p for p, r in self.results.items() if r.get("passed") is False)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for model.json."""
        return {
            "limits": {
                "dice_drop": self.settings.dice_drop,
                "g_ratio_bias": self.settings.g_ratio_bias,
            },
            "inference": asdict(self.settings.inference),
            "images": {source: list(names) for source, names in self.images.items()},
            "results": {name: dict(result) for name, result in self.results.items()},
        }

    def failure(self, folder: Path) -> BundleError:
        """The error to raise where a precision fails, saying by how much and for which source."""
        said = [
            f"{name}: {line}" for name in self.failing for line in self.results[name]["failures"]
        ]
        leave = ", or --no-int8" if self.failing == ("int8",) else ""
        return BundleError(
            "the model is worse than its f32 self by more than the gates allow; it was not written",
            where=folder,
            seen="; ".join(said),
            fix=f"Its checkpoint is kept: give --resume with --drop-failing{leave}, to export without what fails",
        )


def pass_gates(
    bundle: Path,
    images: tuple[Annotated, ...],
    settings: GateSettings | None = None,
    *,
    threads: int | None = None,
) -> Gates:
    """Run a bundle at each precision over images, by the ordinary inference, and compare with f32.

    Dice is against the masks, per source the mean over its images. The g-ratio's bias (Bland & Altman 1986) is that
    of the precision's fibres against those of f32, matched as :func:`ranvier.assessment.assess` matches them: the
    same fibres on both sides, so that an annotator's habits do not blur it. Where no fibre is matched, there is no
    bias to judge, and the entry says so.

    bf16 is skipped where the CPU does not compute it; int8 is not mentioned where the bundle has no such graph.

    Parameters
    ----------
    bundle
        Folder of a sealed bundle.
    images
        With masks; it matters little whether the network was trained on them, for arithmetic is compared.
    settings
        Limits and how many images.
    threads
        As for :func:`ranvier.inference.load_model`.

    Raises
    ------
    SettingsError
        No images.
    BundleError, BackendError
        The bundle cannot be run.
    """
    settings = settings or GateSettings()
    used = gate_images(images, settings.images_per_source)
    if not used:
        raise SettingsError("gates need at least one image with masks", where=bundle)
    names: dict[str, list[str]] = {}
    for image in used:
        names.setdefault(image.source, []).append(image.name)
    results: dict[str, Mapping[str, Any]] = {}
    candidates: list[Precision] = []
    if bf16_is_native():
        candidates.append("bf16")
    else:
        results["bf16"] = {"skipped": "the machine that exported the model does not compute bf16"}
    if "int8" in open_bundle(bundle).kinds:
        candidates.append("int8")
    tallies = _tallies(bundle, used, candidates, settings, threads)
    for precision in candidates:
        results[precision] = _judged(tallies, precision, settings)
    return Gates(settings, {s: tuple(n) for s, n in names.items()}, results)


def gate_images(images: tuple[Annotated, ...], per_source: int) -> tuple[Annotated, ...]:
    """At most so many images with masks of each source, evenly spread."""
    sources: dict[str, list[Annotated]] = {}
    for image in images:
        if image.masks:
            sources.setdefault(image.source, []).append(image)
    chosen: list[Annotated] = []
    for group in sources.values():
        number = min(per_source, len(group))
        chosen += [group[i * len(group) // number] for i in range(number)]
    return tuple(chosen)


@dataclass(eq=False)
class _Tally:
    """Figures of one source at one precision, image by image."""

    dice: dict[str, list[float]]
    g_ratio: Agreement


def _tallies(
    bundle: Path,
    images: tuple[Annotated, ...],
    precisions: list[Precision],
    settings: GateSettings,
    threads: int | None,
) -> dict[tuple[str, str], _Tally]:
    """By source and precision; one image and its masks in memory at a time."""
    order: list[Precision] = [REFERENCE, *precisions]
    models = {p: load_model(bundle, precision=p, threads=threads, keep=False) for p in order}
    found: dict[tuple[str, str], _Tally] = {}
    for image in images:
        micrograph, truth = image.load()
        inference, classes = settings.inference, {}
        for precision, model in models.items():
            seen = segment(micrograph, model, settings=inference)
            classes[precision] = seen.classes
            # The zoom that f32 chose, where it may choose, is that of the others.
            inference = replace(inference, zoom=seen.provenance["zoom"]["chosen"])
        for precision in models:
            tally = found.setdefault(
                (image.source, precision),
                _Tally({name: [] for name in _DICE}, Agreement(np.empty(0), np.empty(0))),
            )
            values = scores(confusion(classes[precision], truth))
            for name in _DICE:
                tally.dice[name].append(values[name])
            if precision != REFERENCE:
                tally.g_ratio += _g_ratios(classes[precision], classes[REFERENCE], micrograph)
    return found


def _g_ratios(
    classes: NDArray[np.uint8], reference: NDArray[np.uint8], micrograph: Micrograph
) -> Agreement:
    compared = assess(classes, reference, pixel_size=micrograph.pixel_size)
    return compared.agreements["g_ratio"]


def _judged(
    tallies: Mapping[tuple[str, str], _Tally], precision: str, settings: GateSettings
) -> dict[str, Any]:
    sources: dict[str, Any] = {}
    failures: list[str] = []
    for source in dict.fromkeys(s for s, _ in tallies):
        ours, theirs = tallies[source, precision], tallies[source, REFERENCE]
        entry: dict[str, Any] = {}
        for name in _DICE:
            entry[name] = _dice(theirs.dice[name], ours.dice[name])
            drop = entry[name]["drop"]
            if drop is not None and drop > settings.dice_drop:
                failures.append(
                    f"{source} {name} drops by {drop:.4f} (limit {settings.dice_drop:g})"
                )
        figures = ours.g_ratio.figures()
        bias = float(figures["bias"])
        entry["g_ratio"] = {
            "bias": None if math.isnan(bias) else round(bias, 6),
            "fibres": int(figures["n"]),
        }
        if abs(bias) > settings.g_ratio_bias:
            failures.append(
                f"{source} g-ratio is off by {bias:+.4f} over {figures['n']} fibres "
                f"(limit {settings.g_ratio_bias:g})"
            )
        sources[source] = entry
    return {"passed": not failures, "failures": failures, "sources": sources}


def _dice(reference: list[float], ours: list[float]) -> dict[str, float | None]:
    """Means over the images that have a score at both precisions; a class that neither has, has none.

    An image on which only one of them has a score (no truth, and one of them found something) counts 1 for the other:
    there was nothing to find, and nothing was found.
    """
    pairs = [
        (1.0 if math.isnan(a) else a, 1.0 if math.isnan(b) else b)
        for a, b in zip(reference, ours, strict=True)
        if not (math.isnan(a) and math.isnan(b))
    ]
    if not pairs:
        return {"f32": None, "value": None, "drop": None}
    a, b = (float(np.mean(v)) for v in zip(*pairs, strict=True))
    return {"f32": round(a, 6), "value": round(b, 6), "drop": round(a - b, 6)}
