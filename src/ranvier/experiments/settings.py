"""What an experiment says: a TOML file read into frozen settings that refuse what they don't know."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from ranvier.errors import SettingsError
from ranvier.training.duration import seconds
from ranvier.training.shipped import refuse_unknown, shipped_file

Protocol = Literal["test", "cross-validation"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.,+-]*")


@dataclass(frozen=True)
class ModelPlan:
    """One model of the table: a training, or something that needs none.

    Attributes
    ----------
    name
        The column's head.
    sources
        What it is trained on; one source makes a dedicated model, several a generalist.
    recipe, changes, time_budget
        Of its training; None and () stand for the experiment's own.
    folds
        Which folds are trained; () stands for the experiment's.
    bundle
        A model that exists: its embedded name or its folder.
    masks
        A folder of another tool's masks of the same images.
    """

    name: str
    sources: tuple[str, ...] = ()
    recipe: str | None = None
    changes: tuple[str, ...] = ()
    time_budget: str | None = None
    folds: tuple[int, ...] = ()
    bundle: str | None = None
    masks: str | None = None

    @property
    def is_trained(self) -> bool:
        """Whether the experiment trains it."""
        return bool(self.sources)

    @property
    def is_dedicated(self) -> bool:
        """Whether it is trained on one source."""
        return len(self.sources) == 1


@dataclass(frozen=True)
class Experiment:
    """Everything that an experiment needs to know.

    Attributes
    ----------
    name, title, text
        Of the page; the text stands below the title.
    protocol
        ``test``: ensembles of folds, on the sources' own test sets. ``cross-validation``: every image by the network
        of the fold that held it out.
    sources
        Names and folders of annotated datasets, absolute.
    models
        The columns of the table.
    rows
        Test sets made of several sources, by name; sources that are in none of them have rows of their own.
    out_of_distribution, qualitative
        Names and folders of datasets that nothing is trained on: annotated, and shown only.
    folds, seed, use_folds
        How many folds are dealt, by what, and which are trained; () stands for all.
    recipe, changes, time_budget
        Of every training that says nothing else.
    generalist
        The model that dedicated ones are compared with.
    margin
        Difference of Dice that counts as none; see :mod:`ranvier.comparison`.
    where, sha256
        The file, and its hash.
    """

    name: str
    title: str
    models: tuple[ModelPlan, ...]
    sources: Mapping[str, Path]
    text: str = ""
    protocol: Protocol = "test"
    rows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    out_of_distribution: Mapping[str, Path] = field(default_factory=dict)
    qualitative: Mapping[str, Path] = field(default_factory=dict)
    folds: int = 5
    seed: int = 0
    use_folds: tuple[int, ...] = ()
    recipe: str = "compact"
    changes: tuple[str, ...] = ()
    time_budget: str | None = None
    generalist: str | None = None
    margin: float = 0.02
    where: Path = Path()
    sha256: str = ""

    @property
    def trained(self) -> tuple[ModelPlan, ...]:
        """The models that the experiment trains."""
        return tuple(m for m in self.models if m.is_trained)

    def folds_of(self, model: ModelPlan) -> tuple[int, ...]:
        """Which folds of a model are trained."""
        return model.folds or self.use_folds or tuple(range(self.folds))

    def row_of(self, source: str) -> str:
        """The test set that a source's images belong to."""
        return next((row for row, inside in self.rows.items() if source in inside), source)

    def datasets(self) -> dict[str, Path]:
        """Every dataset by name."""
        return {**self.sources, **self.out_of_distribution, **self.qualitative}


_LISTS = {
    "models.sources": str,
    "models.set": str,
    "models.folds": int,
    "set": str,
    "use_folds": int,
}
_RENAMED = {"set": "changes"}


def find_experiment(name: str) -> Path:
    """The file of an experiment: a path, or the bare name of one that ships (``intra``, ``inter``, ``shared``).

    Raises
    ------
    SettingsError
        There is none.
    """
    return shipped_file(
        name, kind="experiment", folder="experiments", installed="recipes/experiments"
    )


def read_experiment(path: Path, *, data: Path | None = None) -> Experiment:
    """Read an experiment.

    Parameters
    ----------
    path
        A TOML file.
    data
        What relative folders in it are relative to; None: the file's own folder.

    Raises
    ------
    SettingsError
        No such file, not TOML, unknown keys, values of the wrong type, or names that do not fit together; all of the
        last kind are listed.
    """
    try:
        raw = path.read_bytes()
        loaded = tomllib.loads(raw.decode())
    except OSError as error:
        raise SettingsError("cannot be read", where=path, seen=error.strerror) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError("not a TOML file", where=path, seen=str(error)) from error
    allowed = {f.name for f in fields(Experiment)} - {"where", "sha256", "changes"} | {"set"}
    refuse_unknown(loaded, allowed, "key of the experiment", path)
    home = data or path.resolve().parent
    values: dict[str, Any] = {"where": path, "sha256": hashlib.sha256(raw).hexdigest()}
    for key, value in loaded.items():
        values[_RENAMED.get(key, key)] = _value(key, value, home, path)
    for needed in ("name", "sources", "models"):
        if not values.get(needed):
            raise SettingsError(f"an experiment needs {needed}", where=path)
    values.setdefault("title", values["name"])
    made = Experiment(**values)
    problems = [*_problems(made)]
    if problems:
        raise SettingsError("names and numbers do not fit", where=path, seen="; ".join(problems))
    return made


def _value(key: str, value: Any, home: Path, where: Path) -> Any:
    if key in ("sources", "out_of_distribution", "qualitative"):
        table = _typed(key, value, dict, where)
        return {n: (home / _typed(f"{key}.{n}", p, str, where)).resolve() for n, p in table.items()}
    if key == "rows":
        table = _typed(key, value, dict, where)
        return {n: _listed(f"rows.{n}", inside, str, where) for n, inside in table.items()}
    if key == "models":
        return tuple(_model(m, home, where) for m in _typed(key, value, list, where))
    if key in _LISTS:
        return _listed(key, value, _LISTS[key], where)
    if key == "margin" and type(value) is int:
        return float(value)
    kinds = {"folds": int, "seed": int, "margin": float}
    return _typed(key, value, kinds.get(key, str), where)


def _model(value: Any, home: Path, where: Path) -> ModelPlan:
    table = _typed("models", value, dict, where)
    allowed = {f.name for f in fields(ModelPlan)} - {"changes"} | {"set"}
    refuse_unknown(table, allowed, "key of the [[models]]", where)
    made: dict[str, Any] = {}
    for key, given in table.items():
        kind = _LISTS.get(f"models.{key}")
        name = f"models.{key}"
        made[_RENAMED.get(key, key)] = (
            _listed(name, given, kind, where) if kind else _typed(name, given, str, where)
        )
    if "name" not in made:
        raise SettingsError("a model needs a name", where=where, seen=repr(table))
    if "masks" in made:
        made["masks"] = str((home / made["masks"]).resolve())
    return ModelPlan(**made)


def _typed(name: str, value: Any, kind: type[Any], where: Path) -> Any:
    if type(value) is not kind:
        raise SettingsError(
            f"{name} must be of type {kind.__name__}", where=where, seen=repr(value)
        )
    return value


def _listed(name: str, value: Any, kind: type[Any], where: Path) -> tuple[Any, ...]:
    listed = _typed(name, value, list, where)
    return tuple(_typed(f"each of {name}", item, kind, where) for item in listed)


def _problems(made: Experiment) -> Iterable[str]:
    """What does not fit together, in words."""
    if made.protocol not in get_args(Protocol):
        yield f"protocol {made.protocol!r} is none of {', '.join(get_args(Protocol))}"
    if made.folds < 2:
        yield f"folds {made.folds}: at least 2"
    if not 0 < made.margin < 1:
        yield f"margin {made.margin}: between 0 and 1"
    counts = Counter(m.name for m in made.models)
    yield from (f"{n} models are named {name!r}" for name, n in counts.items() if n > 1)
    datasets = Counter([*made.sources, *made.out_of_distribution, *made.qualitative])
    yield from (f"{n} datasets are named {name!r}" for name, n in datasets.items() if n > 1)
    yield from (
        f"{name!r}: a name has letters, digits, blanks and _ . , + - only"
        for name in (made.name, *counts, *datasets, *made.rows)
        if not NAME.fullmatch(name)
    )
    for model in made.models:
        yield from (f"{model.name}: {said}" for said in _model_problems(model, made))
    yield from _row_problems(made)
    generalist = next((m for m in made.models if m.name == made.generalist), None)
    if made.generalist is not None and (generalist is None or len(generalist.sources) < 2):
        yield f"generalist {made.generalist!r} is no model trained on several sources"
    yield from _budget_problems(made)


def _model_problems(model: ModelPlan, made: Experiment) -> Iterable[str]:
    origins = [bool(model.sources), model.bundle is not None, model.masks is not None]
    if sum(origins) != 1:
        yield "give one of sources, bundle and masks"
    if not model.is_trained and (model.recipe or model.changes or model.folds or model.time_budget):
        yield "recipe, set, folds and time_budget are for models with sources"
    yield from (f"no source {s!r}" for s in model.sources if s not in made.sources)
    chosen = (*model.folds, *made.use_folds)
    yield from (f"no fold {f} of {made.folds}" for f in chosen if not 0 <= f < made.folds)


def _row_problems(made: Experiment) -> Iterable[str]:
    inside = Counter(s for row in made.rows.values() for s in row)
    yield from (f"rows: no source {s!r}" for s in inside if s not in made.sources)
    yield from (f"rows: {s!r} is in {n} of them" for s, n in inside.items() if n > 1)
    apart = set(made.sources) - set(inside) | set(made.out_of_distribution)
    yield from (f"row {r!r} has the name of a test set" for r in made.rows if r in apart)


def _budget_problems(made: Experiment) -> Iterable[str]:
    for budget in {made.time_budget, *(m.time_budget for m in made.models)} - {None}:
        try:
            seconds(str(budget))
        except SettingsError as error:
            yield f"time_budget {budget!r}: {error.what}"
