"""Options that segment and measure share, and the settings that they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ranvier.bundle import Bundle
    from ranvier.inference import InferenceSettings
    from ranvier.instances import InstanceSettings

EXPORTS = ("xlsx", "parquet", "geojson", "rois", "colours")
"""Kinds of export; a test compares them with ranvier.exporting, which would be slow to load here."""


class ZoomType(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number, or ``auto``; its range is checked with the settings."""

    name = "zoom"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str:
        """Read it."""
        if str(value).lower() == "auto":
            return "auto"
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor auto", param, ctx)


_PLACES = [
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Folder for the results. [default: a folder ranvier/ beside each input]",
    ),
    click.option(
        "--pixel-size",
        type=float,
        metavar="UM",
        help="Micrometres per pixel; overrides what the files say.",
    ),
    click.option(
        "--page",
        type=click.IntRange(0),
        metavar="N",
        help="Which page of a file that has several, from 0.",
    ),
]
_INSTANCES = [
    click.option(
        "--min-axon-area",
        type=click.IntRange(0),
        metavar="PX",
        default=10,
        show_default=True,
        help="Smaller axons are not counted as fibres.",
    ),
    click.option(
        "--min-axon-area-um2",
        type=click.FloatRange(0),
        metavar="UM2",
        help="The same in square micrometres, where the pixel size is known.",
    ),
    click.option(
        "--max-hole-area",
        type=click.IntRange(0),
        metavar="PX",
        help="Larger holes in axons and fibres stay open; 0 fills none. [default: fill all]",
    ),
    click.option(
        "--max-hole-area-um2",
        type=click.FloatRange(0),
        metavar="UM2",
        help="The same in square micrometres, where the pixel size is known.",
    ),
    click.option(
        "--max-gap",
        type=click.IntRange(0),
        metavar="PX",
        default=2,
        show_default=True,
        help="Widest gap between an axon and an open sheath of its own.",
    ),
    click.option(
        "--max-gap-um",
        type=click.FloatRange(0),
        metavar="UM",
        help="The same in micrometres, where the pixel size is known.",
    ),
]
_MEASURES = [
    click.option(
        "--axon-shape",
        type=click.Choice(["circle", "ellipse"]),
        default="circle",
        show_default=True,
        help="Diameters of the circle of equal area, or minor axes of the ellipse of equal moments.",
    ),
    click.option(
        "--caliber-bins",
        metavar="A,B,...",
        help="Edges of bins of axon diameter, in um (px without a pixel size). "
        "[default: 0,0.25,0.5,1,2,4,8,16 um]",
    ),
    click.option(
        "--include-border",
        is_flag=True,
        help="Let means count fibres that the image's border cuts, too.",
    ),
    click.option(
        "--fascicles",
        type=click.Path(path_type=Path),
        metavar="MASK",
        help="Mask of the nerve or its fascicles. [default: X_seg-nerve.* beside the input, if it is there]",
    ),
    click.option(
        "--fascicle-labels",
        is_flag=True,
        help="Masks of nerves are label images: each value is one fascicle.",
    ),
]
_FILES = [
    click.option(
        "--export",
        "exports",
        type=click.Choice([*EXPORTS, "all"]),
        multiple=True,
        help="Write the fibres in one more form; may be given several times.",
    ),
    click.option("--numbers", is_flag=True, help="Write each fibre's id into the overlay."),
    click.option(
        "--max-pixels",
        type=click.IntRange(1),
        metavar="N",
        help="Refuse larger images before decoding them.",
    ),
    click.option(
        "--overwrite",
        is_flag=True,
        help="Replace results of an earlier run; never other files, nor masks changed by hand.",
    ),
    click.option(
        "--skip-existing",
        is_flag=True,
        help="Leave inputs alone whose results are complete.",
    ),
]


_SEEING = [
    click.option(
        "--zoom",
        type=ZoomType(),
        default="auto",
        show_default=True,
        metavar="auto|F",
        help="Show images to the model enlarged (above 1), shrunk (below 1) or as they are (1); auto chooses for each "
        "image the zoom at which its fibres look as in training.",
    ),
    click.option(
        "--views",
        type=click.Choice(["1", "2", "4"]),
        default="1",
        show_default=True,
        help="Average over each image as it is (1), turned (2), and mirrored (4): slower and a little better.",
    ),
    click.option(
        "--min-closure",
        type=click.FloatRange(0, 1),
        metavar="SHARE",
        help="Take axons of whose border less than this share is myelin for background; 0 keeps all. "
        "[default: 0.3; 0 for imported models and classical ones]",
    ),
    click.option(
        "--min-confidence",
        type=click.FloatRange(0, 1),
        metavar="P",
        help="Take axons for background that the model gives a lower probability than this, in the mean over their "
        "pixels; 0 keeps all. [default: 0.6; 0 for imported models and classical ones]",
    ),
    click.option(
        "--min-contrast",
        type=click.FloatRange(0, 1),
        metavar="SHARE",
        help="Take axons for background that differ in grey from the myelin next to them by less than this share of "
        "what is usual in the image; 0 keeps all. [default: 0.1; 0 for imported models and classical ones]",
    ),
    click.option(
        "--faithful/--fast",
        default=False,
        help="Run an imported nnU-Net as nnU-Net itself would, or much faster, which is the default.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["f32", "bf16", "int8"]),
        default="f32",
        show_default=True,
        help="Arithmetic of the network.",
    ),
]
_SEGMENTING = [
    click.option("--channel", metavar="NAME|N", help="Which channel of files that have several."),
    click.option(
        "--model",
        default="generalist",
        show_default=True,
        metavar="NAME|DIR",
        help="An embedded model or a model's folder.",
    ),
    *_SEEING,
]


def with_options(command: Any, options: Iterable[Any]) -> Any:
    """Add options to a command, in their order."""
    for option in reversed([*options]):
        command = option(command)
    return command


def common(command: Any) -> Any:
    """Options that segment and measure share."""
    return with_options(command, [*_PLACES, *_INSTANCES, *_MEASURES, *_FILES])


def instances(command: Any) -> Any:
    """Options that say how classes become fibres, for :func:`instance_settings`."""
    return with_options(command, _INSTANCES)


def seeing(command: Any) -> Any:
    """Options that say how images are shown to a model, for :func:`inference_settings`."""
    return with_options(command, _SEEING)


def segmenting(command: Any) -> Any:
    """Options of commands that run one model: which, on which channel, and those of :func:`seeing`."""
    return with_options(command, _SEGMENTING)


def instance_settings(chosen: Mapping[str, Any]) -> InstanceSettings:
    """Settings out of the options of :func:`instances`."""
    from ranvier.instances import InstanceSettings

    return InstanceSettings(
        min_axon_area=chosen["min_axon_area"],
        min_axon_area_um2=chosen["min_axon_area_um2"],
        max_hole_area=chosen["max_hole_area"],
        max_hole_area_um2=chosen["max_hole_area_um2"],
        max_gap_px=chosen["max_gap"],
        max_gap_um=chosen["max_gap_um"],
    )


def inference_settings(chosen: Mapping[str, Any]) -> InferenceSettings:
    """Settings out of the options of :func:`seeing`."""
    from ranvier.inference import InferenceSettings

    return InferenceSettings(
        zoom=chosen["zoom"],
        views=int(chosen["views"]),
        faithful=chosen["faithful"],
        min_closure=chosen["min_closure"],
        min_confidence=chosen["min_confidence"],
        min_contrast=chosen["min_contrast"],
    )


def chosen_channel(chosen: Mapping[str, Any]) -> str | int | None:
    """The channel of ``--channel``: a number where it is one."""
    text = chosen["channel"]
    return int(text) if text is not None and text.isdecimal() else text


def chosen_options(chosen: dict[str, Any]) -> dict[str, Any]:
    """Turn the shared options into arguments of :class:`ranvier.jobs.Options`."""
    from ranvier.morphometrics import MeasureSettings
    from ranvier.reading import Limits

    if chosen["overwrite"] and chosen["skip_existing"]:
        raise click.UsageError("--overwrite and --skip-existing exclude each other")
    existing = (
        "overwrite" if chosen["overwrite"] else "skip" if chosen["skip_existing"] else "refuse"
    )
    limits = Limits() if chosen["max_pixels"] is None else Limits(max_pixels=chosen["max_pixels"])
    exports = EXPORTS if "all" in chosen["exports"] else tuple(dict.fromkeys(chosen["exports"]))
    return {
        "output": chosen["output"],
        "pixel_size": chosen["pixel_size"],
        "page": chosen["page"],
        "limits": limits,
        "instances": instance_settings(chosen),
        "measuring": MeasureSettings(axon_shape=chosen["axon_shape"]),
        "summary": _summary(chosen["caliber_bins"], include_border=chosen["include_border"]),
        "fascicles": chosen["fascicles"],
        "fascicle_labels": chosen["fascicle_labels"],
        "exports": exports,
        "numbers": chosen["numbers"],
        "existing": existing,
    }


def views_given() -> bool:
    """Whether the user asked for a number of views."""
    given = click.get_current_context().get_parameter_source("views")
    return given is click.core.ParameterSource.COMMANDLINE


def check_views(bundle: Bundle) -> None:
    """Refuse views that were asked for where they mean nothing: for models shown patches, or without a network.

    Raises
    ------
    UsageError
        ``--views`` was given for such a model.
    """
    if not views_given():
        return
    if bundle.classical is not None:
        raise click.UsageError("--views is for networks, and this model has none")
    if bundle.patches is not None:
        raise click.UsageError(
            "--views is not for imported models: --faithful mirrors as nnU-Net does, --fast does not"
        )


def _summary(bins: str | None, *, include_border: bool) -> Any:
    from ranvier.summary import SummarySettings

    if bins is None:
        return SummarySettings(include_border=include_border)
    try:
        edges = tuple(float(part) for part in bins.split(","))
    except ValueError:
        raise click.BadParameter(
            f"{bins!r} is not a list of numbers such as 0,1,2,4", param_hint="--caliber-bins"
        ) from None
    return SummarySettings(
        include_border=include_border, caliber_bins_um=edges, caliber_bins_px=edges
    )
