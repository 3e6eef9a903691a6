"""What is asked for one image, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ranvier.errors import SettingsError
from ranvier.exporting import EXPORT_ENDINGS
from ranvier.inference import InferenceSettings
from ranvier.instances import InstanceSettings
from ranvier.morphometrics import MeasureSettings
from ranvier.reading import Limits
from ranvier.results import Existing
from ranvier.summary import SummarySettings

__all__ = ["DEFAULT_FOLDER", "MaskSet", "Options", "Outcome", "Status"]

Status = Literal["done", "skipped", "failed"]
DEFAULT_FOLDER = "ranvier"


@dataclass(frozen=True)
class Options:
    """Everything that a user can choose for one image, beside the model.

    Attributes
    ----------
    output
        Folder for the results; None is a folder ``ranvier`` beside each input.
    pixel_size
        Micrometres per pixel; overrides what the file says.
    page, channel
        Which image of a file that holds several.
    limits
        What is refused before decoding.
    inference, instances, measuring, summary
        Settings of those stages.
    fascicles
        A mask of the nerve or its fascicles; None takes ``X_seg-nerve.*`` beside the input, if it is there.
    fascicle_labels
        That mask is a label image.
    exports
        Kinds of export beside the table, of :data:`ranvier.exporting.EXPORT_ENDINGS`.
    numbers
        Write each fibre's id into the overlay.
    existing
        What to do where results are there already.

    Raises
    ------
    SettingsError
        There is no such kind of export.
    """

    output: Path | None = None
    pixel_size: float | None = None
    page: int | None = None
    channel: int | str | None = None
    limits: Limits = field(default_factory=Limits)
    inference: InferenceSettings = field(default_factory=InferenceSettings)
    instances: InstanceSettings = field(default_factory=InstanceSettings)
    measuring: MeasureSettings = field(default_factory=MeasureSettings)
    summary: SummarySettings = field(default_factory=SummarySettings)
    fascicles: Path | None = None
    fascicle_labels: bool = False
    exports: tuple[str, ...] = ()
    numbers: bool = False
    existing: Existing = "refuse"

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.exports if kind not in EXPORT_ENDINGS]
        if unknown:
            raise SettingsError(
                "no such export",
                seen=", ".join(map(str, unknown)),
                fix=f"Choose from {', '.join(EXPORT_ENDINGS)}",
            )

    def folder_for(self, path: Path) -> Path:
        """Where the results of one input go."""
        return self.output if self.output is not None else path.parent / DEFAULT_FOLDER


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Attributes
    ----------
    message
        The error, for a failed input.
    summary
        Image-level figures; see :func:`ranvier.summary.summarise`.
    pixel_size
        As it is shown to the user.
    """

    path: Path
    status: Status
    message: str = ""
    outputs: tuple[Path, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pixel_size: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class MaskSet:
    """The mask files of one image: one with three levels, or an axon mask and a myelin mask.

    Attributes
    ----------
    names_both
        Whether the name of a single file says that it holds both classes.
    notes
        Why these files and not others beside them.
    """

    stem: str
    files: tuple[Path, ...]
    names_both: bool = False
    notes: tuple[str, ...] = ()
