"""A micrograph and a model -> the class of every pixel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ranvier._classical_settings import as_section
from ranvier._doubtful_axons import (
    MIN_CLOSURE,
    MIN_CONFIDENCE,
    MIN_CONTRAST,
    AxonLimits,
    LeftOut,
    without_doubtful_axons,
)
from ranvier.backends import (
    PRECISIONS,
    Backend,
    OpenVinoBackend,
    Precision,
    WholeImage,
    int8_is_cheap,
)
from ranvier.bundle import DEFAULT_MODEL, Bundle, open_bundle
from ranvier.errors import PrecisionError, SettingsError
from ranvier.micrograph import Micrograph, Segmentation
from ranvier.patchwise import FAITHFUL, FAST, predict_patchwise
from ranvier.preprocess import zoomed_shape
from ranvier.tilewise import (
    VIEWS,
    InferenceSettings,
    Prediction,
    Progress,
    Zoom,
    check_zoomed,
    classify,
    fixed_zoom,
    predict,
    tile_logits,
)
from ranvier.zooming import ZoomChoice, choose_zoom, trained_axon_px

__all__ = [
    "VIEWS",
    "InferenceSettings",
    "Model",
    "Prediction",
    "Progress",
    "Zoom",
    "classify",
    "load_model",
    "predict",
    "segment",
    "tile_logits",
]


@dataclass(frozen=True, eq=False)
class Model:
    """A bundle and who runs it.

    Attributes
    ----------
    bundle, backend
        The model, and its network at the precision that was asked for.
    scout
        Loads who looks at images to choose their zoom; None: the backend does.
    """

    bundle: Bundle
    backend: Backend
    scout: Callable[[], Backend] | None = None

    @cached_property
    def looker(self) -> Backend:
        """Who looks at an image at many zooms, to choose one: loaded when it is first needed."""
        return self.backend if self.scout is None else self.scout()

    @property
    def description(self) -> dict[str, dict[str, Any]]:
        """Which model, by name and hash, and what runs it: what goes into run.json.

        Of a model without a network the hash is that of its settings, which are given, too.
        """
        model: dict[str, Any] = {"name": self.bundle.name, "sha256": self.bundle.sha256}
        if self.bundle.classical is not None:
            model["classical"] = as_section(self.bundle.classical)
        return {"model": model, "backend": dict(self.backend.description)}

    @property
    def sees_windows(self) -> bool:
        """Whether it can be shown an image window by window: a network that Ranvier made, that is."""
        return self.bundle.patches is None and self.bundle.classical is None

    @property
    def wants_colour(self) -> bool:
        """Whether it looks at red, green and blue; see :attr:`ranvier.micrograph.Micrograph.colour`."""
        return self.bundle.patches is not None and len(self.bundle.patches.channels) == 3


def load_model(
    name: str | Path = DEFAULT_MODEL,
    *,
    precision: Precision = "f32",
    threads: int | None = None,
    keep: bool = True,
) -> Model:
    """Load a model for inference on the CPU.

    Parameters
    ----------
    name
        An embedded model's name or a bundle's folder.
    precision
        ``f32``, ``bf16`` (on CPUs that compute it) or ``int8`` (where the bundle has a quantised graph).
    threads
        CPU threads; None takes as many as this process may use. A model without a network uses one.
    keep
        Keep the compiled graph in the user's cache folder, or take it from there (:mod:`ranvier._compiled`).

    Raises
    ------
    BundleError
        The model is missing, damaged or not a Ranvier bundle.
    PrecisionError
        This machine or this bundle does not offer the precision, or the model was found to be worse in it.
    SettingsError
        Unknown precision, or fewer than one thread.
    """
    if precision not in PRECISIONS:
        raise SettingsError(
            "unknown precision",
            where="--precision",
            seen=precision,
            fix=f"Choose {', '.join(PRECISIONS)}",
        )
    if threads is not None and threads < 1:
        raise SettingsError("at least one thread is needed", where="--threads", seen=threads)
    bundle = open_bundle(name)
    if bundle.classical is not None:
        return Model(bundle, WholeImage(precision))
    kind = "int8" if precision == "int8" else "float"
    if kind not in bundle.kinds:
        raise PrecisionError(
            "this model has no int8 graph",
            where=bundle.folder,
            fix="Choose --precision f32 or bf16",
        )
    failures = bundle.failures(precision)
    if failures:
        raise PrecisionError(
            f"this model is worse in {precision} than its makers allowed",
            where=bundle.folder,
            seen="; ".join(failures),
            fix="Choose --precision f32",
        )
    run = partial(_run, bundle, threads=threads, keep=keep)
    # An int8 network finds the same zoom in less time.
    cheaper = precision != "int8" and "int8" in bundle.kinds and not bundle.failures("int8")
    return Model(
        bundle, run(precision), partial(run, "int8") if cheaper and int8_is_cheap() else None
    )


def _run(bundle: Bundle, precision: Precision, *, threads: int | None, keep: bool) -> Backend:
    graph = bundle.graph("int8" if precision == "int8" else "float")
    return OpenVinoBackend(*graph, precision=precision, threads=threads, keep=keep)


def segment(
    micrograph: Micrograph,
    model: Model | None = None,
    *,
    settings: InferenceSettings | None = None,
    progress: Progress | None = None,
) -> Segmentation:
    """Find axons and myelin.

    Parameters
    ----------
    micrograph
        From :func:`ranvier.read` or :func:`ranvier.reading.from_array`.
    model
        From :func:`load_model`; None loads the embedded generalist in f32.
    settings
        Zoom and tile size. Zoom ``auto``, the default, is chosen by what the network sees (:mod:`ranvier.zooming`);
        for models imported from nnU-Net and those without a network it is 1.
    progress
        Called with (pixels done, pixels in all) after each tile.

    Returns
    -------
    Segmentation
        ``provenance["zoom"]`` says which zoom was asked for and chosen and, where it was ``auto``, how each that was
        tried came out.

    Raises
    ------
    SettingsError
        The image is too large for the zoom, does not go with the model's channels, ``faithful`` is asked of a model
        that is not shown patches, or a zoom of one without a network.
    BackendError
        The network failed.
    """
    model = model or load_model()
    settings = settings or InferenceSettings()
    bundle = model.bundle
    if bundle.patches is None and settings.faithful:
        raise SettingsError(
            "only models imported from nnU-Net can be run as nnU-Net runs them",
            where="--faithful",
            seen=bundle.name,
        )
    if bundle.classical is not None:
        return _classical(micrograph, model, settings, progress)
    zoom = _zoomed(micrograph, model, settings)
    seen = replace(settings, zoom=zoom["chosen"])
    if bundle.patches is None:
        found = predict(
            micrograph,
            model.backend,
            field=bundle.field,
            settings=seen,
            normalisation=bundle.normalisation,
            progress=progress,
        )
    else:
        found = _patched(micrograph, model, seen, progress)
    limits = axon_limits(model, settings)
    classes, doubtful = without_doubtful_axons(
        found.classes, found.confidence, limits, pixels=micrograph.pixels
    )
    provenance = {
        **model.description,
        "inference": asdict(settings),
        "zoom": zoom,
        **doubtful.record,
        "input_sha256": micrograph.sha256,
        "notes": segmenting_notes(zoom, doubtful),
    }
    if bundle.patches is not None:
        provenance["window"] = asdict(FAITHFUL if settings.faithful else FAST)
        provenance["shown"] = "colour" if _sees_colour(micrograph, model) else "grey"
    return Segmentation(classes, micrograph.pixel_size, provenance, found.confidence)


def axon_limits(model: Model, settings: InferenceSettings) -> AxonLimits:
    """Which axons are kept: what the settings say, or what suits the model."""
    usual = (MIN_CLOSURE, MIN_CONFIDENCE, MIN_CONTRAST) if model.sees_windows else (0.0,) * 3
    asked = (settings.min_closure, settings.min_confidence, settings.min_contrast)
    limits = (u if a is None else a for u, a in zip(usual, asked, strict=True))
    return AxonLimits(*limits)


def segmenting_notes(zoom: Mapping[str, Any], doubtful: LeftOut) -> tuple[str, ...]:
    """What the user is told of a segmentation: the zoom, whether the image is strange, and which axons went."""
    notes = []
    if zoom["chosen"] != zoom["asked"] and zoom["chosen"] != 1:
        why = (
            "" if zoom.get("unlike_training") else ", at which the model sees fibres as in training"
        )
        notes.append(f"zoom {zoom['chosen']:.3g} chosen{why} (--zoom 1 shows images as they are)")
    if zoom.get("unlike_training"):
        notes.append(
            "the image is unlike those that the model was trained on: look at the overlay before you use any number"
        )
    return (*notes, *doubtful.notes)


def _zoomed(micrograph: Micrograph, model: Model, settings: InferenceSettings) -> dict[str, Any]:
    """The zoom that was asked for and the one that is taken, as they are recorded."""
    if settings.zoom != "auto":
        return {"asked": settings.zoom, "chosen": settings.zoom}
    if model.bundle.patches is not None:
        return {"asked": "auto", "chosen": 1.0}
    choice = choose_zoom(
        micrograph.pixels,
        model.looker,
        field=model.bundle.field,
        settings=settings,
        normalisation=model.bundle.normalisation,
        axon_px=trained_axon_px(model.bundle.about),
    )
    return zoom_record(choice, model)


def zoom_record(choice: ZoomChoice, model: Model) -> dict[str, Any]:
    """A zoom that was chosen, for run.json, and the precision in which the model looked; None: not told."""
    return {**choice.as_dict(), "looked_in": model.looker.description.get("precision")}


def _classical(
    micrograph: Micrograph, model: Model, settings: InferenceSettings, progress: Progress | None
) -> Segmentation:
    """As :func:`segment`, by a model without a network: it has no confidence."""
    if settings.zoom not in (1, "auto"):
        raise SettingsError(
            "this model finds the scale itself, and takes no zoom",
            where="--zoom",
            seen=settings.zoom,
            fix="Leave it out; a model's folder can set sheath_px",
        )
    from ranvier.classical import find_fibres

    found = find_fibres(micrograph, model.bundle.classical, progress=progress)
    zoom = {"asked": settings.zoom, "chosen": 1.0}
    limits = axon_limits(model, settings)
    classes, doubtful = without_doubtful_axons(
        found.classes, None, limits, pixels=micrograph.pixels
    )
    unknown = "this model has no confidence: --min-confidence leaves none of its axons out"
    notes = (*found.notes, *((unknown,) if limits.confidence > 0 else ()))
    provenance = {
        **model.description,
        "input_sha256": micrograph.sha256,
        "zoom": zoom,
        "found": {"polarity": found.polarity, "sheath_px": found.sheath_px},
        **doubtful.record,
        "notes": (*notes, *segmenting_notes(zoom, doubtful)),
    }
    return Segmentation(classes, micrograph.pixel_size, provenance)


def _sees_colour(micrograph: Micrograph, model: Model) -> bool:
    """Whether the model is shown red, green and blue; grey stands for all three where the micrograph has no colour."""
    return model.wants_colour and micrograph.colour is not None


def _patched(
    micrograph: Micrograph,
    model: Model,
    settings: InferenceSettings,
    progress: Progress | None,
) -> Prediction:
    """As :func:`predict`, by a model that is shown patches of one size."""
    plan = model.bundle.patches
    if plan is None:
        raise SettingsError("this model is not shown patches", where=model.bundle.folder)
    zoom = fixed_zoom(settings)
    check_zoomed(zoomed_shape(micrograph.shape, zoom), micrograph, settings)
    colour = micrograph.colour if _sees_colour(micrograph, model) else None
    return Prediction(
        *predict_patchwise(
            micrograph.pixels if colour is None else colour,
            model.backend,
            plan,
            window=FAITHFUL if settings.faithful else FAST,
            zoom=zoom,
            progress=progress,
        )
    )
