"""Draw three sources of one modality whose fibres differ as species' do, for experiments/drawn.toml.

    python experiments/draw_species.py FOLDER

Bright field, each with test images of its own. The statistics are made up, one after small mammals (dense, thin
fibres), one after larger ones (thick sheaths), one after human nerve (few, large, irregular fibres, thin sheaths, pale
stain): what counts is that they differ.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ranvier.datasets.phantom import PhantomSettings, draw, write_dataset
from ranvier.writing import write_atomically

IMAGES, TEST = 8, 3
SHAPE = (384, 480)
SPECIES: dict[str, dict[str, Any]] = {
    "DRAWN_SMALL": {
        "pixel_size_um": 0.1, "diameter_mean_um": 1.6, "diameter_sd_um": 0.6, "diameter_max_um": 3.5,
        "g_ratio_mean": 0.62, "fibre_fraction": 0.6, "noise": 6.0,
    },
    "DRAWN_LARGE": {
        "pixel_size_um": 0.15, "diameter_mean_um": 4.0, "diameter_sd_um": 1.8, "diameter_max_um": 9.0,
        "g_ratio_mean": 0.52, "fibre_fraction": 0.5, "blur": 1.2,
    },
    "DRAWN_PALE": {
        "pixel_size_um": 0.25, "diameter_min_um": 1.2, "diameter_mean_um": 5.0, "diameter_sd_um": 2.2,
        "diameter_max_um": 12.0,
        "g_ratio_mean": 0.74, "fibre_fraction": 0.3, "irregularity": 0.7, "debris": 0.8, "noise": 14.0,
    },
}  # fmt: skip


def main() -> None:
    """Draw every source into a folder of its name."""
    home = Path(sys.argv[1])
    for number, (name, changes) in enumerate(SPECIES.items()):
        settings = [
            PhantomSettings.typical("BF", shape=SHAPE, seed=100 * number + i, **changes)
            for i in range(IMAGES)
        ]
        images = write_dataset(home / name, [draw(s) for s in settings])
        about = json.loads((home / name / "dataset.json").read_text())
        about |= {"name": name, "test": [p.stem for p in images[-TEST:]]}
        write_atomically(
            home / name / "dataset.json", (json.dumps(about, indent=2) + "\n").encode()
        )
        print(f"{home / name}: {len(images)} images, {TEST} of them for tests")


if __name__ == "__main__":
    main()
