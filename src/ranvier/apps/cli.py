"""The command line: one program with verbs."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ranvier.apps.options import (
    check_views,
    chosen_channel,
    chosen_options,
    common,
    inference_settings,
    segmenting,
)
from ranvier.apps.showing import LazyGroup, ProgressBar, failing, show_outcomes
from ranvier.apps.streaming_options import stream_settings, streaming, with_slides
from ranvier.errors import RanvierError

if TYPE_CHECKING:
    from ranvier.inference import Model

_UNSAID = 120
"""Exit code where something that was printed did not arrive, as Python's own."""
_LAZY = {
    "run": "ranvier.apps.cli_run:run",
    "collect": "ranvier.apps.cli_run:collect",
    "summarise": "ranvier.apps.cli_summarise:summarise",
    "data": "ranvier.apps.cli_data:data",
    "aggregate": "ranvier.apps.cli_aggregate:aggregate",
    "evaluate": "ranvier.apps.cli_evaluate:evaluate",
    "experiment": "ranvier.apps.cli_experiment:experiment",
    "models": "ranvier.apps.cli_models:models",
    "doctor": "ranvier.apps.cli_models:doctor",
    "train": "ranvier.apps.cli_train:train",
    "distil": "ranvier.apps.cli_distil:distil",
    "finetune": "ranvier.apps.cli_finetune:finetune",
}


@click.group(cls=LazyGroup, lazy=_LAZY, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ranvier", prog_name="ranvier")
def cli() -> None:
    """Find axons and their myelin in any micrograph, and measure every fibre."""


@cli.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@common
@segmenting
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads. [default: all]")
@streaming
@failing
def segment(paths: tuple[str, ...], **chosen: Any) -> int:
    """Segment micrographs and measure their fibres.

    PATH is an image, an OME-Zarr or a slide, a folder of images, or a quoted glob.
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        # Meanwhile this thread imports what comes after the network.
        loading = pool.submit(_loaded, chosen)
        from ranvier.cohort import image_place, run_all
        from ranvier.jobs import Options
        from ranvier.streaming.running import segment_any

        options = Options(
            **chosen_options(chosen),
            channel=chosen_channel(chosen),
            inference=inference_settings(chosen),
        )
        model = loading.result()
    check_views(model.bundle)
    stream = stream_settings(chosen)
    found = with_slides(paths)

    def work(path: Path) -> Any:
        with ProgressBar(path.name) as bar:
            return segment_any(path, model, options, stream=stream, progress=bar)

    outcomes = run_all(found, work, place=image_place(options), path_of=lambda path: path)
    return show_outcomes(outcomes)


def _loaded(chosen: Mapping[str, Any]) -> Model:
    """The model of the options, with who chooses the zoom, if it is to be chosen."""
    from ranvier.inference import load_model

    model = load_model(chosen["model"], precision=chosen["precision"], threads=chosen["threads"])
    if chosen["zoom"] == "auto" and model.sees_windows:
        _ = model.looker
    return model


@cli.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@common
@failing
def measure(paths: tuple[str, ...], **chosen: Any) -> int:
    """Measure the fibres of masks that exist, from any tool.

    PATH is a mask, a folder of masks, or a quoted glob: pairs X_seg-axon.png and X_seg-myelin.png, or masks with
    three levels (0 / 127 / 255, 0 / 128 / 255 or 0 / 1 / 2 for background, myelin and axon). A mask
    X_seg-nerve.png beside them gives figures of each fascicle.
    """
    from ranvier.cohort import find_masks, mask_place, run_all
    from ranvier.jobs import Options
    from ranvier.pipeline import measure_masks

    options = Options(**chosen_options(chosen))
    outcomes = run_all(
        find_masks(paths),
        lambda masks: measure_masks(masks, options),
        place=mask_place(options),
        path_of=lambda masks: masks.files[0],
    )
    return show_outcomes(outcomes)


def main(arguments: Iterable[str] | None = None) -> None:
    """Run the program and leave with its exit code: 0 all done, 1 something failed, 2 wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = cli.main(args=None if arguments is None else list(arguments), standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.exceptions.Abort:
        click.echo("stopped", err=True)
        code = 130
    except RanvierError as error:
        click.echo(f"error: {error}", err=True)
        code = 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def console() -> None:
    """As :func:`main`, for a process that does nothing else: leave without taking the interpreter apart, 0.1 s sooner.

    What is to be done at the end is done: threads are waited for, ``atexit`` is heard, output is flushed.
    """
    try:
        main()
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            code = code or _UNSAID
    os._exit(code)


if __name__ == "__main__":
    console()
