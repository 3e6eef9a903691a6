"""What a user should know of a model: facts for model.json, and the same as a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ranvier.datasets.annotated import Annotated
from ranvier.datasets.folds import Split

CARD = "card.md"
_TEXTS = ("licence", "species", "organ", "pathology", "modality")
_WEAK = 0.7
"""Dice below which the card warns of a source."""


def data_facts(split: Split) -> dict[str, dict[str, Any]]:
    """What a model was trained on and scored on, by source.

    Parameters
    ----------
    split
        The images; those whose pixel size the dataset does not give are read for it.

    Returns
    -------
    dict
        Per source: numbers of images and subjects trained on and held out; ``licence``, ``species``, ``organ``,
        ``pathology`` and ``modality`` as sorted lists, empty where the dataset does not say; ``pixel_sizes_um``.
    """
    every = (*split.train, *split.validation)
    return {
        source: _source_facts(
            [a for a in split.train if a.source == source],
            [a for a in split.validation if a.source == source],
        )
        for source in sorted({a.source for a in every})
    }


def _source_facts(trained: list[Annotated], held_out: list[Annotated]) -> dict[str, Any]:
    every = list(dict.fromkeys([*trained, *held_out]))
    facts: dict[str, Any] = {
        "images": len(trained),
        "subjects": len({a.subject for a in trained}),
        "held_out_images": len(held_out),
        "held_out_subjects": len({a.subject for a in held_out}),
        "unlabelled_images": sum(not a.masks for a in trained),
    }
    for name in _TEXTS:
        facts[name] = sorted({str(v) for a in every if (v := getattr(a, name))})
    facts["pixel_sizes_um"] = sorted({um for a in every if (um := _um(a)) is not None})
    return facts


def _um(image: Annotated) -> float | None:
    size = image.pixel_size or image.load()[0].pixel_size
    return None if size is None else size.um


def limits(
    data: Mapping[str, Mapping[str, Any]],
    validation: Mapping[str, Mapping[str, float]],
    warnings: Iterable[str] = (),
) -> list[str]:
    """What a model was not trained on, and where it is weak, in plain sentences.

    Parameters
    ----------
    data
        From :func:`data_facts`.
    validation
        Dice by source on what was held out.
    warnings
        Of the split.
    """
    said = []
    for name, many in (("modality", "modalities"), ("species", "species"), ("organ", "organs")):
        seen = sorted({v for facts in data.values() for v in facts[name]})
        if seen:
            said.append(f"Trained on the {many} {', '.join(seen)} only; others were not seen.")
        unsaid = sorted(s for s, facts in data.items() if not facts[name])
        if unsaid:
            said.append(f"The datasets do not say the {name} of {', '.join(unsaid)}.")
    ill = sorted({v for facts in data.values() for v in facts["pathology"]})
    known = f"Pathology as the datasets say: {', '.join(ill)}; others were not seen."
    said.append(known if ill else "The datasets say nothing of pathology.")
    sizes = [um for facts in data.values() for um in facts["pixel_sizes_um"]]
    if sizes:
        said.append(
            f"Pixel sizes from {min(sizes):g} to {max(sizes):g} um were seen; zoom other images to that range."
        )
    for source, facts in sorted(data.items()):
        if facts["subjects"] == 1:
            said.append(f"{source} stands for one subject only.")
        if source not in validation or not validation[source]:
            said.append(f"No score of {source}: no image of it was held out.")
    for source, values in sorted(validation.items()):
        for key, value in sorted(values.items()):
            if key.startswith("dice_") and value < _WEAK:
                said.append(
                    f"Weak on {source}: Dice of {key.removeprefix('dice_')} {value:.2f} on held-out images."
                )
    return [*said, *(f"{w[:1].upper()}{w[1:]}." for w in warnings)]


def card(about: Mapping[str, Any]) -> str:
    """The card as Markdown, made of nothing but what model.json says.

    Parameters
    ----------
    about
        Of a bundle: ``name``, ``created``, ``graphs`` and ``training``; ``data``, ``limits``, ``how_scored`` and
        ``gates`` where there are.
    """
    training = about["training"]
    parts = [f"# {about['name']}", "", f"Made {about.get('created', '?')}."]
    parts += [_begun(training), "", "## Data", "", *_data_table(about.get("data", {}))]
    parts += ["", "## Training", "", *_recipe(training)]
    parts += ["", "## Dice on what was held out", "", str(about.get("how_scored", "")), ""]
    parts += _scores(training.get("validation") or {}, training.get("ensemble") or [])
    parts += _calibrated(training.get("calibration"))
    parts += ["", "## Precision", "", *_gates(about.get("gates"))]
    parts += ["", "## Limits", "", *(f"- {text}" for text in about.get("limits", []))]
    return "\n".join(parts).rstrip() + "\n"


def _begun(training: Mapping[str, Any]) -> str:
    if training.get("distilled_from"):
        return "Distilled: it learned the probabilities of other networks."
    if training.get("ensemble"):
        return (
            f"An ensemble: the mean of the probabilities of {len(training['ensemble'])} networks."
        )
    if training.get("begun_from"):
        return "It began with the weights of another training."
    return "Trained from nothing."


def _calibrated(calibration: Mapping[str, Any] | None) -> list[str]:
    if calibration is None:
        return []
    if "as_sure_as" in calibration:
        return [
            "",
            "## Probabilities",
            "",
            f"Logits are divided by {calibration['temperature']:g}, which makes the network as sure as its teacher on "
            f"the {calibration['images']} images that both have learned from.",
        ]
    before, after = (calibration[f"expected_calibration_error_{n}"] for n in ("before", "after"))
    return [
        "",
        "## Probabilities",
        "",
        f"Logits are divided by {calibration['temperature']:g}, fitted on what the networks of the folds said of the "
        f"{calibration['images']} images that they held out: their expected calibration error is {before:g} without, "
        f"{after:g} with it.",
    ]


def _data_table(data: Mapping[str, Mapping[str, Any]]) -> list[str]:
    heads = ("source", "images (subjects)", "held out", *_TEXTS, "um per pixel")
    rows = [_line(heads), _line(["---"] * len(heads))]
    for source, facts in data.items():
        blind = facts["unlabelled_images"]
        sizes = ", ".join(f"{um:g}" for um in facts["pixel_sizes_um"])
        rows.append(
            _line(
                (
                    source,
                    f"{facts['images']} ({facts['subjects']})"
                    + f", {blind} unlabelled" * bool(blind),
                    f"{facts['held_out_images']} ({facts['held_out_subjects']})",
                    *(", ".join(facts[name]) or "not said" for name in _TEXTS),
                    sizes or "not said",
                )
            )
        )
    return rows


def _recipe(training: Mapping[str, Any]) -> list[str]:
    recipe = training.get("recipe", {})
    schedule = recipe.get("schedule", {})
    members = training.get("ensemble") or []
    seeds = sorted({m.get("seed", schedule.get("seed")) for m in members} or {schedule.get("seed")})
    rows = [
        f"- {training.get('parameters', 0):,} parameters, {training.get('steps')} steps, "
        f"{training.get('seconds')} s; seed {', '.join(map(str, seeds))}"
    ]
    for section, values in recipe.items():
        said = ", ".join(f"{key} = {_plain(value)}" for key, value in values.items())
        rows.append(f"- [{section}] {said}")
    for member in members:
        held = sum(map(len, member["held_out"].values()))
        rows.append(f"- fold {member['fold']}: {member['steps']} steps, {held} images held out")
    return rows


def _plain(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple | list) else str(value)


def _scores(
    validation: Mapping[str, Mapping[str, float]], members: list[Mapping[str, Any]]
) -> list[str]:
    if not validation:
        return ["Nothing was held out: nothing tells how good this model is."]
    rows = [_line(("source", "axon", "myelin")), _line(["---"] * 3)]
    listed = [(source, values) for source, values in validation.items()]
    for member in members:
        listed += [(f"{s}, fold {member['fold']}", v) for s, v in member["scores"].items()]
    for source, values in listed:
        figures = (values.get(f"dice_{name}") for name in ("axon", "myelin"))
        rows.append(_line((source, *("-" if f is None else f"{f:.3f}" for f in figures))))
    return rows


def _gates(gates: Mapping[str, Any] | None) -> list[str]:
    if not gates:
        return ["Other precisions than f32 were not compared with it."]
    limit = gates["limits"]
    images = sum(map(len, gates["images"].values()))
    rows = [
        f"Against f32, on {images} images; limits: Dice drop {limit['dice_drop']:g}, "
        f"g-ratio bias {limit['g_ratio_bias']:g}.",
        "",
        _line(("precision", "source", "axon drop", "myelin drop", "g-ratio bias", "passed")),
        _line(["---"] * 6),
    ]
    for precision, result in gates["results"].items():
        if "skipped" in result:
            rows.append(_line((precision, "-", "-", "-", "-", f"skipped: {result['skipped']}")))
            continue
        passed = "yes" if result["passed"] else "no"
        for source, entry in result["sources"].items():
            drops = (entry[f"dice_{n}"]["drop"] for n in ("axon", "myelin"))
            figures = (*drops, entry["g_ratio"]["bias"])
            shown = ("-" if f is None else f"{f:+.4f}" for f in figures)
            rows.append(_line((precision, source, *shown, passed)))
    return rows


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
