"""Every error that Ranvier raises on purpose.

::

    RanvierError
    ├── InputError                  something that the user handed over is wrong
    │   ├── ReadError               an image file that cannot be used
    │   │   ├── UnsupportedFormatError
    │   │   ├── CorruptImageError
    │   │   ├── ImageTooLargeError
    │   │   └── AmbiguousImageError   several pages or channels and none chosen
    │   ├── PixelSizeError          missing, anisotropic or absurd
    │   ├── MaskError               a mask whose values or shape make no sense
    │   ├── DatasetError            an annotated dataset with problems
    │   └── SettingsError           a setting out of its range, an unknown key
    ├── BundleError                 a model that cannot be used
    │   ├── BundleNotFoundError
    │   ├── BundleIntegrityError    sizes or hashes differ from model.json
    │   └── BundleFormatError       model.json says something impossible
    ├── BackendError                the inference runtime failed
    │   └── PrecisionError          this machine or bundle lacks the precision
    ├── OutputError                 results cannot be written
    │   └── OutputExistsError
    └── MissingExtraError           an optional part is not installed
"""

from __future__ import annotations

from pathlib import Path


class RanvierError(Exception):
    """An error with its place, what was seen and what to do about it.

    Parameters
    ----------
    what
        One sentence fragment that says what is wrong.
    where
        The file or setting in which it is wrong.
    seen
        What was found there.
    fix
        What the user can do.
    """

    def __init__(
        self,
        what: str,
        *,
        where: Path | str | None = None,
        seen: object = None,
        fix: str | None = None,
    ) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.seen = seen
        self.fix = fix
        text = what if self.where is None else f"{self.where}: {what}"
        if seen is not None:
            text += f" (seen: {seen})"
        if fix is not None:
            text += f". {fix}"
        super().__init__(text)


class InputError(RanvierError):
    """Something that the user handed over is wrong."""


class ReadError(InputError):
    """An image file cannot be used."""


class UnsupportedFormatError(ReadError):
    """The bytes are of no format that Ranvier reads."""


class CorruptImageError(ReadError):
    """The file claims a known format but cannot be decoded."""


class ImageTooLargeError(ReadError):
    """The file or its decoded image is over the limit."""


class AmbiguousImageError(ReadError):
    """The file holds several pages or channels and none was chosen."""


class PixelSizeError(InputError):
    """A pixel size is missing where it is needed, anisotropic or absurd."""


class MaskError(InputError):
    """A mask has values or a shape that make no sense."""


class DatasetError(InputError):
    """An annotated dataset has problems; all of them are listed."""


class SettingsError(InputError):
    """A setting is out of its range or unknown."""


class BundleError(RanvierError):
    """A model bundle cannot be used."""


class BundleNotFoundError(BundleError):
    """No bundle of that name or at that place."""


class BundleIntegrityError(BundleError):
    """A bundle's files differ from the sizes or hashes in its model.json."""


class BundleFormatError(BundleError):
    """A bundle's model.json is unreadable or says something impossible."""


class BackendError(RanvierError):
    """The inference runtime failed."""


class PrecisionError(BackendError):
    """The machine or the bundle does not offer the precision asked for."""


class OutputError(RanvierError):
    """Results cannot be written."""


class OutputExistsError(OutputError):
    """Results are there already and may not be overwritten."""


class MissingExtraError(RanvierError):
    """An optional part of Ranvier is not installed."""
