"""The results of an experiment as files: Markdown, one self-contained HTML page, figures, tables."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ranvier.errors import MissingExtraError, OutputError
from ranvier.experiments.curves import curves_files
from ranvier.experiments.data import Material
from ranvier.experiments.findings import CLASSES, compared, record
from ranvier.experiments.judging import Judged
from ranvier.experiments.page import markdown
from ranvier.experiments.running import Trained
from ranvier.experiments.settings import Experiment
from ranvier.scoring.heat_maps import HeatMapSettings, heat_map_files
from ranvier.scoring.score_tables import scores_csv
from ranvier.scoring.scores import Scores
from ranvier.writing import make_folder, write_atomically

FIGURES = "figures"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #1a1a1a }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto }
th, td { border: 1px solid #ccc; padding: 3px 8px; text-align: left; white-space: nowrap }
th { background: #f2f2f2 } img { max-width: 100% } code { background: #f2f2f2; word-break: break-all }
"""


@dataclass(frozen=True)
class Outcome:
    """Everything that an experiment found.

    Attributes
    ----------
    experiment, material, trained, judged
        From the rooms beside.
    command
        That made it.
    """

    experiment: Experiment
    material: Material
    trained: Sequence[Trained]
    judged: Judged
    command: str


def write_results(outcome: Outcome, folder: Path) -> tuple[Path, ...]:
    """Write ``results.md``, ``results.html``, ``results.json``, ``scores.csv`` and ``figures/``.

    The same results give the same bytes.

    Returns
    -------
    tuple of Path
        The files.

    Raises
    ------
    OutputError
        The folder cannot be written, or nothing could be scored.
    MissingExtraError
        matplotlib or markdown-it-py is not installed.
    """
    main = outcome.judged.main
    if not main.results:
        first = "; ".join(f"{f.model or 'image'}: {f.message}" for f in main.failures[:3])
        raise OutputError("nothing could be scored", where=folder, seen=first or "no images")
    pictures = _figures(outcome)
    names = {name: f"{FIGURES}/{name}.png" for name, files in pictures.items() if files}
    parts = (outcome.experiment, outcome.material, outcome.trained, outcome.judged)
    found = compared(outcome.experiment, main)
    text = markdown(*parts, found=found, command=outcome.command, figures=names)
    inside = {names[name]: files[".png"] for name, files in pictures.items()}
    files = {
        "results.md": text.encode(),
        "results.html": page(text, inside, title=outcome.experiment.title).encode(),
        "results.json": (
            json.dumps(record(*parts, found=found), indent=1, sort_keys=True) + "\n"
        ).encode(),
        "scores.csv": scores_csv(outcome.judged.main),
    }
    if outcome.judged.out_of_distribution is not None:
        files["scores_out_of_distribution.csv"] = scores_csv(outcome.judged.out_of_distribution)
    for name, endings in pictures.items():
        files |= {f"{FIGURES}/{name}{ending}": content for ending, content in endings.items()}
    make_folder(folder / FIGURES)
    for name, content in files.items():
        write_atomically(folder / name, content)
    return tuple(folder / name for name in files)


def _figures(outcome: Outcome) -> dict[str, dict[str, bytes]]:
    judged = outcome.judged
    made = {"dice": _heat_map(judged.main, judged.out_of_distribution)}
    if judged.unseen is not None:
        made["unseen"] = _heat_map(judged.unseen, None)
    made["curves"] = curves_files(outcome.trained)
    return made


def _heat_map(inside: Scores, outside: Scores | None) -> dict[str, bytes]:
    """Test sets by models, axon and myelin side by side, sets that nothing was trained on apart."""
    tables = {cls: inside.table(f"dice_{cls}") for cls in CLASSES}
    settings = HeatMapSettings(columns=inside.models, marked=inside.trained_on)
    if outside is not None:
        for cls in CLASSES:
            tables[cls] |= outside.table(f"dice_{cls}")
        settings = replace(settings, groups={"out of distribution": outside.test_sets})
    return heat_map_files(tables, settings=settings)


def page(text: str, pictures: Mapping[str, bytes], *, title: str) -> str:
    """Markdown as one HTML page that needs no other file.

    Parameters
    ----------
    text
        Markdown with tables.
    pictures
        PNG by the name that the text has for it.
    title
        Of the window.

    Raises
    ------
    MissingExtraError
        markdown-it-py is not installed.
    """
    try:
        from markdown_it import MarkdownIt
    except ImportError as error:
        raise MissingExtraError(
            "a page of results needs markdown-it-py", fix="pip install 'ranvier[report]'"
        ) from error
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)

    def inlined(match: re.Match[str]) -> str:
        content = pictures.get(html.unescape(match[1]))
        if content is None:
            return match[0]
        return f'src="data:image/png;base64,{base64.b64encode(content).decode()}"'

    body = re.sub(r'src="([^"]*)"', inlined, body)
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}</body></html>\n'
