"""Score contenders on annotated images: each image is loaded once, and shown to all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ranvier.assessment import Assessment, assess, measured
from ranvier.datasets.annotated import Annotated, Loaded, text_of
from ranvier.errors import DatasetError, RanvierError, SettingsError
from ranvier.instances import InstanceSettings
from ranvier.micrograph import Fibres
from ranvier.scoring.contenders import Contender, checked_classes
from ranvier.scoring.maps import ClassMaps
from ranvier.scoring.scores import Failure, Pair, Result, Scores

__all__ = ["Progress", "Report", "ScoreSettings", "score"]

Progress = Callable[[int, int], None]
"""Called with (done, in all) after each image and contender."""
Report = Callable[[str], None]
"""Takes a line of text."""


@dataclass(frozen=True)
class ScoreSettings:
    """How segmentations are compared.

    Attributes
    ----------
    instances
        How classes become fibres, in prediction and truth.
    kept_bytes
        Class maps are kept, packed, up to this size, for pictures of errors; pictures of others are predicted anew.
    """

    instances: InstanceSettings = field(default_factory=InstanceSettings)
    kept_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        if self.kept_bytes < 0:
            raise SettingsError("must be 0 or more", where="kept_bytes", seen=self.kept_bytes)


def score(
    contenders: Sequence[Contender],
    images: Sequence[Annotated],
    *,
    settings: ScoreSettings | None = None,
    progress: Progress | None = None,
    report: Report | None = None,
) -> Scores:
    """Compare what each contender makes of each image with what people drew on it.

    An image that cannot be used, or of which a contender makes nothing, is among the failures, and does not stop the
    rest.

    Parameters
    ----------
    contenders
        At least one; their names differ.
    images
        At least one. An image's ``source`` is its test set.
    settings
        How to compare.
    progress
        Called after each image and contender.
    report
        Told of each failure as it happens.

    Raises
    ------
    SettingsError
        No contenders, or two of one name.
    DatasetError
        No images, or two of one source and name.
    """
    _check(contenders, images)
    settings = settings or ScoreSettings()
    work = _Work(settings, ClassMaps(settings.kept_bytes), report or (lambda _: None))
    done, total = 0, len(images) * len(contenders)
    for image in images:
        loaded = work.loaded(image)
        for contender in contenders:
            if loaded is not None:
                work.compare(contender, image, loaded)
            done += 1
            if progress is not None:
                progress(done, total)
    return Scores(
        tuple(contenders),
        tuple(images),
        tuple(work.results),
        work.by_subject,
        tuple(work.failures),
        work.maps,
    )


def _check(contenders: Sequence[Contender], images: Sequence[Annotated]) -> None:
    if not contenders:
        raise SettingsError("nothing to score", fix="Give a model or masks")
    twice = [name for name, n in Counter(c.name for c in contenders).items() if n > 1]
    if twice:
        raise SettingsError(
            "several models or masks have one name",
            seen=", ".join(twice),
            fix="Rename them with NAME=FOLDER",
        )
    if not images:
        raise DatasetError("no images to score on")
    keys = Counter((a.source, a.name) for a in images)
    again = [f"{source}/{name}" for (source, name), n in keys.items() if n > 1]
    if again:
        raise DatasetError("several images have one source and name", seen=", ".join(again[:5]))


@dataclass(eq=False)
class _Work:
    """What is known so far."""

    settings: ScoreSettings
    maps: ClassMaps
    report: Report
    results: list[Result] = field(default_factory=list)
    by_subject: dict[Pair, dict[str, Assessment]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    truth: tuple[Loaded, Fibres] | None = None

    def loaded(self, image: Annotated) -> Loaded | None:
        """An image with its truth, unless it fails."""
        try:
            return image.load_noted()
        except Exception as error:
            self._fail("", image, error)
            return None

    def compare(self, contender: Contender, image: Annotated, loaded: Loaded) -> None:
        """Score one contender on one image, unless it fails."""
        micrograph = loaded.micrograph
        try:
            classes = checked_classes(contender.classes(image, micrograph), micrograph.shape)
            assessment = assess(
                classes,
                loaded.classes,
                pixel_size=micrograph.pixel_size,
                settings=self.settings.instances,
                fibres=self._true_fibres(loaded),
            )
        except Exception as error:
            self._fail(contender.name, image, error)
            return
        self.maps.put((contender.name, image.source, image.name), classes)
        subjects = self.by_subject.setdefault((image.source, contender.name), {})
        before = subjects.get(image.subject)
        subjects[image.subject] = assessment if before is None else before + assessment
        self.results.append(
            Result(
                model=contender.name,
                image=image,
                sha256=loaded.sha256,
                seen=contender.trained.seen(image, loaded.sha256[0]),
                pixel_size=micrograph.pixel_size,
                figures=assessment.figures(),
            )
        )

    def _true_fibres(self, loaded: Loaded) -> Fibres:
        """Of an image's truth, measured once for all contenders."""
        if self.truth is None or self.truth[0] is not loaded:
            found = measured(
                loaded.classes,
                pixel_size=loaded.micrograph.pixel_size,
                settings=self.settings.instances,
            )
            self.truth = (loaded, found)
        return self.truth[1]

    def _fail(self, model: str, image: Annotated, error: Exception) -> None:
        failure = Failure(model, image.source, image.name, _said(error))
        self.failures.append(failure)
        by = f", {model}" if model else ""
        self.report(f"{image.source}/{image.name}{by}: {failure.message}")


def _said(error: Exception) -> str:
    if isinstance(error, RanvierError):
        return text_of(error)
    if isinstance(error, MemoryError):
        return "not enough memory for this image. Crop it, or free memory"
    said = f"unexpected failure (seen: {type(error).__name__}: {error})"
    return said.replace("\n", " ")
