"""Options of ``ranvier segment`` for images that do not fit into memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from ranvier.apps.options import with_options

_OPTIONS = [
    click.option(
        "--stream",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        help="Work window by window, in little memory. auto: TIFF over 100 megapixels, OME-Zarr and slides, "
        "and where a level or region is chosen.",
    ),
    click.option(
        "--level",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        metavar="N",
        help="Level of a pyramid; 0 is full resolution.",
    ),
    click.option(
        "--region",
        metavar="X,Y,W,H",
        help="Only this part of the image, in pixels of the level: left, top, width, height.",
    ),
    click.option(
        "--skip-blank/--no-skip-blank",
        default=True,
        show_default=True,
        help="When streaming, don't show windows without structure (empty glass) to the network.",
    ),
]


def streaming(command: Any) -> Any:
    """Options of streaming."""
    return with_options(command, _OPTIONS)


def stream_settings(chosen: dict[str, Any]) -> Any:
    """Turn the options into :class:`ranvier.streaming.settings.StreamSettings`."""
    from ranvier.streaming.classes import BlankSettings
    from ranvier.streaming.settings import StreamSettings

    return StreamSettings(
        when=chosen["stream"],
        level=chosen["level"],
        region=None if chosen["region"] is None else _region(chosen["region"]),
        blank=BlankSettings(skip=chosen["skip_blank"]),
    )


def _region(text: str) -> tuple[int, int, int, int]:
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not four whole numbers such as 0,0,4000,3000", param_hint="--region"
        ) from None
    return x, y, width, height


def with_slides(paths: Iterable[str]) -> Any:
    """What paths, folders and globs stand for, OME-Zarr folders and slides of other formats among them."""
    from ranvier.cohort import Found, find_images
    from ranvier.streaming.opening import kind_of

    texts = list(paths)
    only_streamed = [Path(t) for t in texts if kind_of(Path(t)) not in ("tiff", "image")]
    left = [t for t in texts if Path(t) not in only_streamed]
    found: Found[Path] = find_images(left) if left else Found(())
    return Found((*found.items, *dict.fromkeys(only_streamed)), found.outcomes)
