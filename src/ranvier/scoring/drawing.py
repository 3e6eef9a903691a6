"""What figures drawn with matplotlib share: one look, and the same bytes each time."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ranvier.errors import MissingExtraError

__all__ = ["ellipsis", "plain_look", "rendered", "text_width", "wrapped"]

DPI = 150
_LOOK: Any = {
    "svg.hashsalt": "ranvier",
    "svg.fonttype": "path",
    "text.parse_math": False,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@contextmanager
def plain_look() -> Iterator[None]:
    """Draw in one look, whatever the user's own settings of matplotlib are.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtraError(
            "heat maps and plots need matplotlib",
            fix="Install it with: pip install 'ranvier[report]'",
        ) from error
    with warnings.catch_warnings(), matplotlib.rc_context():
        # Names may have letters that the font has not; they are shown as boxes.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_LOOK)
        yield


def rendered(figure: Any, kind: str) -> bytes:
    """A figure as ``png`` or ``svg``, without date and version."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": "Ranvier"}
    figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()


def text_width(text: str, size: float) -> float:
    """Inches that a text takes in letters of a size in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not text.strip():
        return 0.0
    font = FontProperties(size=size)
    return float(TextPath((0, 0), text, prop=font).get_extents().width) / 72


def ellipsis(text: str, most: int) -> str:
    """A text of at most so many letters: of a longer one, beginning and end."""
    if len(text) <= most:
        return text
    end = (most - 3) // 2
    return f"{text[: most - 3 - end]}...{text[-end:]}"


def wrapped(text: str, width: int) -> str:
    """A text in lines of at most so many letters; long words are cut."""
    return "\n".join(textwrap.wrap(text, max(width, 8))) or text
