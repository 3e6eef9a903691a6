"""What is streamed, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ranvier.errors import SettingsError
from ranvier.streaming.classes import BlankSettings
from ranvier.streaming.sheaths import Rounds

__all__ = ["STREAM_ABOVE_PX", "StreamSettings", "When"]

STREAM_ABOVE_PX = 100_000_000
"""Larger images are streamed unless that was ruled out: in memory they would take 5 GB or more."""
When = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class StreamSettings:
    """What is streamed, and which part of it.

    Attributes
    ----------
    when
        ``auto``: images of more than ``above_px`` pixels, formats that are only read in parts, and where a level or
        a region is chosen; ``always``; ``never``.
    above_px
        See ``when``.
    level
        Of a pyramid, 0 for full resolution.
    region
        x, y, width and height in pixels of that level; None for all.
    blank
        Which windows are not shown to the network.
    rounds
        Size of windows in which myelin is shared out; of no influence on results.
    crop_px
        Edge of the squares whose fibres are measured together; of no influence on results.

    Raises
    ------
    SettingsError
        A value is out of its range.
    """

    when: When = "auto"
    above_px: int = STREAM_ABOVE_PX
    level: int = 0
    region: tuple[int, int, int, int] | None = None
    blank: BlankSettings = field(default_factory=BlankSettings)
    rounds: Rounds = field(default_factory=Rounds)
    crop_px: int = 1024

    def __post_init__(self) -> None:
        if self.when not in ("auto", "always", "never"):
            raise SettingsError(
                "must be auto, always or never", where="--stream", seen=repr(self.when)
            )
        for name in ("above_px", "crop_px"):
            if getattr(self, name) < 1:
                raise SettingsError("must be at least 1", where=name, seen=getattr(self, name))
        if self.when == "never" and (self.level or self.region is not None):
            raise SettingsError("levels and regions are only streamed", where="--stream never")
