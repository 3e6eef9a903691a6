"""What ``ranvier evaluate`` is asked to score, and on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ranvier.apps.options import check_views, inference_settings
from ranvier.errors import SettingsError

if TYPE_CHECKING:
    from ranvier.scoring.choosing import Chosen
    from ranvier.scoring.contenders import Contender, ModelContender


def chosen_images(folders: Sequence[Path], truth: Path | None, chosen: Mapping[str, Any]) -> Chosen:
    """What to score on, with the pixel size that was given."""
    from ranvier.calibration import checked
    from ranvier.errors import DatasetError
    from ranvier.scoring.choosing import Chosen, choose_images
    from ranvier.scoring.truth import list_truth

    um = chosen["pixel_size"]
    size = None if um is None else checked(um, um, "option", where="--pixel-size")
    if truth is not None:
        listing = list_truth(truth, pixel_size=size)
        if not listing.images:
            raise DatasetError(
                "no true mask to score on", where=truth, seen="; ".join(listing.problems)
            )
        said = (f"{listing.images[0].source}: {len(listing.images)} true mask(s)", *listing.notes)
        return Chosen(listing.images, said, listing.problems)
    found = choose_images(folders, role=chosen["role"], fold=chosen["fold"])
    if size is None:
        return found
    return replace(found, images=tuple(replace(a, pixel_size=size) for a in found.images))


def chosen_contenders(
    models: Sequence[str], predictions: Sequence[str], images: Chosen, chosen: Mapping[str, Any]
) -> list[Contender]:
    """Models first, then folders of masks, in the order in which they were given."""
    from ranvier.scoring.mask_folder import MasksContender

    # Masks are looked for first: loading a model takes longer than finding that one is missing.
    named = (_named(text) for text in predictions)
    masks = [MasksContender(Path(folder), images.images, name=name) for name, folder in named]
    return [*_models(models, chosen), *masks]


def _models(texts: Sequence[str], chosen: Mapping[str, Any]) -> list[ModelContender]:
    """Load models, each with the settings that mean something to it."""
    from ranvier.bundle import embedded
    from ranvier.inference import load_model
    from ranvier.scoring.contenders import ModelContender

    inference = inference_settings(chosen)
    known = embedded()
    found: list[ModelContender] = []
    for text in texts:
        name, place = (None, text) if text in known else _named(text)
        model = load_model(place, precision=chosen["precision"], threads=chosen["threads"])
        patched = model.bundle.patches is not None
        settings = replace(inference, faithful=inference.faithful and patched)
        found.append(ModelContender(name or model.bundle.name, model, settings))
    imported = [c for c in found if c.model.bundle.patches is not None]
    if chosen["faithful"] and not imported:
        raise click.UsageError("--faithful is for models imported from nnU-Net, and there is none")
    if found and len(imported) == len(found):
        check_views(found[0].model.bundle)
    return found


def _named(text: str) -> tuple[str | None, str]:
    """``NAME=PLACE`` in two; a place that is there as a whole has no name."""
    if Path(text).exists() or "=" not in text:
        return None, text
    name, _, place = text.partition("=")
    if not name.strip() or not place:
        raise SettingsError("not NAME=FOLDER", where="--model or --pred", seen=text)
    return name.strip(), place
