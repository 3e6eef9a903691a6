"""Draw README's picture with the program itself: python docs/make_overlay.py."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
NAMES = ("sem.png", "brightfield.png")


def main() -> None:
    """Segment two examples and put each beside its overlay."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = [str(ROOT / "examples" / name) for name in NAMES]
        subprocess.run(
            [sys.executable, "-m", "ranvier", "segment", *inputs, "-o", folder], check=True
        )
        picture = Image.new("RGB", (4 * 300, 300))
        for place, name in enumerate(NAMES):
            overlay = Path(folder) / f"{Path(name).stem}_overlay.png"
            for column, source in enumerate((ROOT / "examples" / name, overlay)):
                with Image.open(source) as image:
                    part = image.convert("RGB").crop((60, 60, 360, 360))
                picture.paste(part, ((2 * place + column) * 300, 0))
        picture.save(ROOT / "docs" / "overlay.png", optimize=True)


if __name__ == "__main__":
    main()
