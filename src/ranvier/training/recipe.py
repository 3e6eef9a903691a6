"""A training recipe: TOML read into frozen settings that refuse what they don't know."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ranvier.errors import SettingsError
from ranvier.training.settings import (
    AugmentationSettings,
    InputSettings,
    LossSettings,
    NetworkSettings,
    Recipe,
    Sampling,
    SamplingSettings,
    ScheduleSettings,
    TrainingPrecision,
)
from ranvier.training.shipped import refuse_unknown, shipped_file

__all__ = [
    "AugmentationSettings",
    "InputSettings",
    "LossSettings",
    "NetworkSettings",
    "Recipe",
    "Sampling",
    "SamplingSettings",
    "ScheduleSettings",
    "TrainingPrecision",
    "read_recipe",
    "recipe_from",
]


def read_recipe(path: Path | str, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, or a recipe that ships by its bare name (``compact``).

    Parameters
    ----------
    path
        A file or a name.
    changes
        Keys to be set otherwise, each as ``section.key=value`` with a value as TOML has it; text needs no quotes.

    Raises
    ------
    SettingsError
        No such file, not TOML, an unknown section or key, a value of the wrong type or out of range.
    """
    file = shipped_file(path, kind="recipe", folder="recipes", installed="recipes")
    try:
        loaded = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError("not a TOML file", where=path, seen=str(error)) from error
    recipe = recipe_from(loaded, where=path)
    for change in changes:
        section, key, value = _change(change)
        part = loaded.setdefault(section, {})
        if isinstance(part, dict):
            part[key] = value
    return recipe_from(loaded, where="--set") if changes else recipe


def _change(text: str) -> tuple[str, str, Any]:
    """Section, key and value of ``section.key=value``."""
    name, equals, value = (part.strip() for part in text.partition("="))
    section, dot, key = name.partition(".")
    if not (equals and dot and section and key and value):
        raise SettingsError(
            "not section.key=value", where="--set", seen=text, fix="e.g. augmentation.invert=0"
        )
    try:
        parsed = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return section, key, value
    return section, key, parsed["value"]


def recipe_from(values: dict[str, Any], *, where: Path | str = "recipe") -> Recipe:
    """Make a recipe from nested plain values; the inverse of :meth:`Recipe.as_dict`.

    Sections and keys that are not given have their defaults, so that recipes written before a key was known mean
    what they meant.

    Raises
    ------
    SettingsError
        As for :func:`read_recipe`.
    """
    sections = {f.name: f.default_factory for f in fields(Recipe)}
    refuse_unknown(values, set(sections), "section", where)
    made = {}
    for name, value in values.items():
        if not isinstance(value, dict):
            raise SettingsError("expected a section", where=where, seen=f"{name} = {value!r}")
        made[name] = _section(type(sections[name]()), name, value, where)  # type: ignore[operator]
    try:
        return Recipe(**made)
    except SettingsError as error:
        raise SettingsError(error.what, where=where, seen=error.seen) from error


def _section(kind: type[Any], name: str, values: dict[str, Any], where: Path | str) -> Any:
    defaults = kind()
    refuse_unknown(values, {f.name for f in fields(kind)}, f"key in [{name}]", where)
    converted = {}
    for key, value in values.items():
        converted[key] = _like(getattr(defaults, key), value, f"{name}.{key}", where)
    try:
        return kind(**converted)
    except SettingsError as error:
        raise SettingsError(error.what, where=where, seen=error.seen) from error


def _like(default: Any, value: Any, name: str, where: Path | str) -> Any:
    """Convert a TOML value to the type of the default, or refuse it."""
    if name == "schedule.patch" and type(value) is int:
        return (value, value)
    if isinstance(default, tuple) and isinstance(value, list):
        same_length = name == "network.channels" or len(value) == len(default)
        if same_length and all(_is_number(v) for v in value):
            return tuple(value)
    elif isinstance(default, bool | str | int):
        if type(value) is type(default):
            return value
    elif isinstance(default, float) and _is_number(value):
        return float(value)
    expected = f"{len(default)} numbers" if isinstance(default, tuple) else type(default).__name__
    raise SettingsError(f"{name} must be of type {expected}", where=where, seen=repr(value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
