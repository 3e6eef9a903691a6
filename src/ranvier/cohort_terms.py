"""How a cohort is run, what is told meanwhile, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ranvier.backends import Precision
from ranvier.bundle import DEFAULT_MODEL
from ranvier.cohort_plan import Shard
from ranvier.errors import SettingsError
from ranvier.jobs import Options

__all__ = ["Event", "RunSettings", "Tally", "Tell", "no_tell"]


@dataclass(frozen=True)
class RunSettings:
    """How a cohort is run.

    Attributes
    ----------
    options
        Settings of every image, where its row does not say otherwise; without places for results.
    model, precision
        What segments; unused where every row has masks.
    threads
        CPU threads of all processes together; None for as many as this process may use.
    jobs
        Processes at once.
    shard
        Which part of the work.
    retry_failed
        Whether images are tried again that failed in an earlier run, with the same bytes and settings.

    Raises
    ------
    SettingsError
        Fewer than one process or thread, or options that have no meaning for a cohort.
    """

    options: Options = field(default_factory=Options)
    model: str | Path = DEFAULT_MODEL
    precision: Precision = "f32"
    threads: int | None = None
    jobs: int = 1
    shard: Shard = field(default_factory=Shard)
    retry_failed: bool = True

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise SettingsError("at least one process is needed", where="--jobs", seen=self.jobs)
        if self.threads is not None and self.threads < 1:
            raise SettingsError(
                "at least one thread is needed", where="--threads", seen=self.threads
            )
        if self.options.output or self.options.fascicles or self.options.existing != "refuse":
            raise SettingsError(
                "a cohort has places of its own for results, and a mask of the nerve per row",
                where="options",
            )


@dataclass(frozen=True)
class Event:
    """What a run tells as it goes on.

    Attributes
    ----------
    what
        ``hashed``: a file was looked at; ``begun``: its work began, in a process; the others are ends.
    image
        The id of the first row that asks for it.
    done, total
        How many units have got so far, of how many.
    """

    what: Literal["hashed", "begun", "done", "failed", "skipped"]
    image: str
    done: int
    total: int
    message: str = ""
    notes: tuple[str, ...] = ()
    process: int = 0


@dataclass(frozen=True)
class Tally:
    """What became of a shard's rows.

    Attributes
    ----------
    done, skipped, failed, left
        Rows whose results were made now, were there already, could not be made, and are still to be made.
    computed
        Images that were computed: fewer than ``done`` where one is listed twice.
    stopped
        Whether the run was interrupted.
    notes
        What else is to be said.
    """

    done: int = 0
    skipped: int = 0
    failed: int = 0
    left: int = 0
    computed: int = 0
    stopped: bool = False
    failures: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """All rows of the shard."""
        return self.done + self.skipped + self.failed + self.left


Tell = Callable[[Event], None]


def no_tell(event: Event) -> None:
    """Tell nobody."""
