"""An image -> what a network of patches is shown: channels, the box that matters, one scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranvier._patch_plan import Channel, PatchPlan
from ranvier.errors import SettingsError
from ranvier.micrograph import Array
from ranvier.tiling import Box

Planes = NDArray[np.float32]
_EPSILON = 1e-8


def as_channels(pixels: Array, plan: PatchPlan) -> Array:
    """Bring pixels to the shape (channels, rows, columns) that the model expects.

    Grey pixels stand for all three channels of a model of colour images.

    Raises
    ------
    SettingsError
        Colour pixels for a model of grey images.
    """
    wanted = len(plan.channels)
    if pixels.ndim == 2:
        return np.broadcast_to(pixels, (wanted, *pixels.shape))
    if pixels.ndim != 3 or pixels.shape[2] != wanted:
        raise SettingsError(
            f"this model takes images of {wanted} channel(s)", where="image", seen=pixels.shape
        )
    return np.moveaxis(pixels, 2, 0)


def nonzero_box(image: Array) -> Box:
    """The smallest box that holds all pixels that are not 0 in every channel; the whole image if all are."""
    seen = image[0] != 0
    for plane in image[1:]:
        seen |= plane != 0
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not rows.size:
        return Box(0, 0, *seen.shape)
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def normalised(image: Array, channels: tuple[Channel, ...]) -> Planes:
    """Bring each channel to its scale; the rules are nnU-Net's.

    Parameters
    ----------
    image
        Shape (channels, rows, columns), cropped already.
    channels
        What each is brought to.

    Raises
    ------
    SettingsError
        A channel that is divided by 255 has values outside of 0 to 255.
    """
    out: Planes = image.astype(np.float32)
    masked = any(c.masked for c in channels)
    seen = (out != 0).any(axis=0) if masked else None
    for index, channel in enumerate(channels):
        plane = out[index]
        if channel.normalisation == "rescale-0-1":
            plane -= plane.min()
            plane /= max(plane.max(), np.float32(_EPSILON))
        elif channel.normalisation == "z-score":
            _standardise(plane, seen if channel.masked else None)
        elif channel.normalisation == "rgb-0-1":
            low, high = float(plane.min()), float(plane.max())
            if low < 0 or high > 255:
                raise SettingsError(
                    "this model takes grey levels from 0 to 255",
                    where=channel.name,
                    seen=f"{low:g} to {high:g}",
                    fix="Convert the image to 8 bits",
                )
            plane /= np.float32(255)
    return out


def _standardise(plane: Planes, seen: NDArray[np.bool_] | None) -> None:
    """Subtract the mean and divide by the standard deviation, in place, of all pixels or of those seen."""
    part = plane if seen is None else plane[seen]
    if not part.size:
        return
    mean, std = float(part.mean(dtype=np.float64)), float(part.std(dtype=np.float64))
    scaled = (part - np.float32(mean)) / np.float32(max(std, _EPSILON))
    if seen is None:
        plane[:] = scaled
    else:
        plane[seen] = scaled
