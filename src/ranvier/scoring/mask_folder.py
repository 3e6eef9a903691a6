"""A folder with the masks of any tool, by the names of the images, and as a contender."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier._mask_files import IMAGE_ENDINGS, MaskFile, chosen, is_nerve, mask_file
from ranvier.datasets.annotated import Annotated
from ranvier.datasets.listing import stem_of as image_stem
from ranvier.errors import InputError, MaskError, RanvierError
from ranvier.jobs import MaskSet
from ranvier.micrograph import AXON, MYELIN, Micrograph, Segmentation
from ranvier.provenance import file_sha256
from ranvier.reading import read
from ranvier.results import OUTPUT_ENDINGS, stem_of
from ranvier.scoring.contenders import Trained
from ranvier.segmentations import segmentation_of_masks

__all__ = ["MaskFolder", "MasksContender"]

MOST_NAMED = 5
"""Images named in an error; more are counted."""
_CHANNEL = re.compile(r"_\d{4}$")
"""Ending of the name of a channel in nnU-Net's raw datasets."""


class MaskFolder:
    """The masks in a folder, put together by image as ``ranvier measure`` does.

    Files named ``X_seg-axon.*`` and ``X_seg-myelin.*``, or ``X_seg-axonmyelin.*``, are the masks of image X, with or
    without ``-manual``. Where no file has such a name, each image file X.* is the mask, with three levels, of image X.

    Parameters
    ----------
    folder
        Its own files count, not those of folders in it.

    Raises
    ------
    InputError
        There is no such folder, or no mask in it.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError("no such folder of masks", where=folder)
        self.folder = folder
        inside = [
            p
            for p in sorted(folder.iterdir())
            if p.is_file() and not p.name.startswith(".") and p.suffix.lower() in IMAGE_ENDINGS
        ]
        self._named: dict[str, list[MaskFile]] = {}
        for mask in filter(None, map(mask_file, inside)):
            self._named.setdefault(mask.stem, []).append(mask)
        self._plain: dict[str, list[Path]] = {}
        for path in [] if self._named else inside:
            if not is_nerve(path) and not path.name.endswith(OUTPUT_ENDINGS):
                self._plain.setdefault(stem_of(path), []).append(path)
        if not self.stems:
            raise InputError("no mask in this folder", where=folder)

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of the images that have masks."""
        return (*self._named, *self._plain)

    def of(self, stem: str) -> MaskSet:
        """The mask files of an image.

        Raises
        ------
        InputError
            One of a pair is missing, or several files could be the mask.
        """
        if stem in self._named:
            return chosen(self._named[stem])
        files = self._plain[stem]
        if len(files) > 1:
            raise MaskError(
                "several masks of one image",
                where=self.folder,
                seen=", ".join(p.name for p in files),
                fix="Leave one of them there",
            )
        return MaskSet(stem, (files[0],))

    def read(
        self, masks: MaskSet, *, pixel_size: float | None = 1.0
    ) -> tuple[list[Micrograph], Segmentation]:
        """Read the masks of one image.

        A mask of a single class, of which nothing tells which, is taken for one with three levels if another mask of
        the folder has all three.

        Parameters
        ----------
        masks
            From :meth:`of`.
        pixel_size
            In micrometres; None takes what the files say.

        Raises
        ------
        ReadError, MaskError, PixelSizeError
            A file cannot be used.
        """
        planes = [read(path, pixel_size=pixel_size) for path in masks.files]
        found = segmentation_of_masks(planes, names_both=True)
        both = masks.names_both or len(planes) > 1 or _has_both(found)
        if not both and np.any(found.classes) and not self._has_three_levels:
            segmentation_of_masks(planes, names_both=False)  # says what is wrong
        return planes, found

    @cached_property
    def _has_three_levels(self) -> bool:
        """Whether a mask that is alone holds axon and myelin."""
        for files in self._plain.values():
            try:
                plane = read(files[0], pixel_size=1.0)
                if _has_both(segmentation_of_masks([plane], names_both=True)):
                    return True
            except RanvierError:
                continue
        return False


def _has_both(found: Segmentation) -> bool:
    return bool((found.classes == AXON).any() and (found.classes == MYELIN).any())


class MasksContender:
    """Masks that a tool made, in a folder.

    Parameters
    ----------
    folder
        Holds a mask, or a pair, for each image; or folders with them, which are told apart by the names of the test
        sets where the names of the images do not.
    images
        All that are to be scored.
    name
        How the tool is called in the tables; the folder's name without it.

    Raises
    ------
    InputError
        Masks are missing, or not to be told apart; images are named.
    """

    def __init__(
        self, folder: Path, images: Iterable[Annotated], *, name: str | None = None
    ) -> None:
        self.name = name or folder.resolve().name
        self.folder = folder
        self._folders: dict[Path, MaskFolder | None] = {}
        self._masks: dict[tuple[str, str], tuple[MaskFolder, MaskSet]] = {}
        if not folder.is_dir():
            raise InputError("no such folder of masks", where=folder)
        missing: list[str] = []
        taken: dict[tuple[Path, ...], Annotated] = {}
        total = 0
        for image in images:
            total += 1
            found = self._found(image)
            if found is None:
                missing.append(f"{image.source}/{image.name}")
                continue
            first = taken.setdefault(found[1].files, image)
            if first is not image:
                raise InputError(
                    f"images {first.source}/{first.name} and {image.source}/{image.name} would have one mask",
                    where=found[1].files[0],
                    fix=f"Put the masks of each test set into a folder of its name: {folder / image.source}",
                )
            self._masks[image.source, image.name] = found
        if missing:
            more = f" and {len(missing) - MOST_NAMED} more" if missing[MOST_NAMED:] else ""
            raise InputError(
                f"no mask of {len(missing)} of {total} image(s)",
                where=folder,
                seen=f"none of {', '.join(missing[:MOST_NAMED])}{more}",
                fix="Name masks like their images: X.png, X_seg-axonmyelin.png, or X_seg-axon.png and "
                "X_seg-myelin.png. Scores of fewer images would not compare",
            )
        self._files = {
            str(path.relative_to(folder)): file_sha256(path)
            for _, masks in self._masks.values()
            for path in masks.files
        }

    def _found(self, image: Annotated) -> tuple[MaskFolder, MaskSet] | None:
        """Masks in the folder of the test set's name, or in the folder itself, or in the one folder in it."""
        places = [[self.folder / image.source], [self.folder], self._inner]
        for place in places:
            found = [
                (known, stem)
                for known in map(self._folder, place)
                if known is not None
                and (stem := next((s for s in _stems(image) if s in known.stems), None))
            ]
            if len(found) > 1:
                raise InputError(
                    f"several folders have masks of {image.source}/{image.name}",
                    where=self.folder,
                    seen=", ".join(known.folder.name for known, _ in found),
                    fix=f"Name the one that counts {image.source}",
                )
            if found:
                known, stem = found[0]
                return known, known.of(stem)
        return None

    @cached_property
    def _inner(self) -> list[Path]:
        return [p for p in sorted(self.folder.iterdir()) if p.is_dir() and p.name[0] != "."]

    def _folder(self, path: Path) -> MaskFolder | None:
        """A folder of masks; None where it is not there, or holds none."""
        if path not in self._folders:
            try:
                self._folders[path] = MaskFolder(path)
            except InputError:
                self._folders[path] = None
        return self._folders[path]

    @property
    def sha256(self) -> str:
        """Hash of the names and hashes of all masks that are scored."""
        lines = (f"{digest}  {name}\n" for name, digest in sorted(self._files.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def about(self) -> Mapping[str, Any]:
        """Folder and files."""
        return {"kind": "masks", "folder": str(self.folder), "files": dict(self._files)}

    @property
    def trained(self) -> Trained:
        """Nothing is known of what made the masks."""
        return Trained()

    def classes(self, image: Annotated, micrograph: Micrograph) -> NDArray[np.uint8]:
        """Read the masks of an image.

        Raises
        ------
        ReadError, MaskError
            They cannot be used, or differ in shape from the image.
        """
        known, masks = self._masks[image.source, image.name]
        planes, found = known.read(masks)
        if found.shape != micrograph.shape:
            raise MaskError(
                f"mask and image {image.name} differ in shape",
                where=planes[0].path,
                seen=f"mask {found.shape}, image {micrograph.shape}",
            )
        return found.classes


def _stems(image: Annotated) -> list[str]:
    """Names that the masks of an image may have, the likeliest first."""
    file = image_stem(image.image)
    names = [image.name, file, _CHANNEL.sub("", file)]
    for path in image.masks:
        mask = mask_file(path)
        names.append(stem_of(path) if mask is None else mask.stem)
    # The case of an aggregate that was exported to nnU-Net.
    names.append(re.sub(r"[^A-Za-z0-9_-]+", "-", f"{image.source}_{image.name}"))
    return list(dict.fromkeys(names))
