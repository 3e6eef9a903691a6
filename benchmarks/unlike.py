"""What models make of images that show no nerve: noise, empty glass, photographs, stained tissue.

    python benchmarks/unlike.py [MODEL...] [--precision f32]

Those of scikit-image's pictures that no training of ours learns from (:mod:`ranvier.training.nothing`), and three that
are drawn. Printed for each: the zoom, its score, whether the program says that the image is unlike the training, and
which share of the pixels it takes for axon and for myelin. Right is: said, and nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np


def strange() -> Iterator[tuple[str, np.ndarray]]:
    """Name and grey levels of each image."""
    from ranvier.training.nothing import HELD_OUT, pictures

    rng = np.random.default_rng(1)
    yield "noise", rng.integers(0, 256, (512, 512), dtype=np.uint8)
    yield "glass", np.clip(rng.normal(230, 3, (512, 512)), 0, 255).astype(np.uint8)
    yield "shading", np.tile(np.linspace(0, 255, 512), (512, 1)).astype(np.uint8)
    yield from pictures(HELD_OUT)


def main() -> None:
    from ranvier import load_model, segment
    from ranvier.reading import from_array

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=["generalist"])
    parser.add_argument("--precision", default="f32")
    chosen = parser.parse_args()
    for name in chosen.models:
        model = load_model(name, precision=chosen.precision)
        print(f"{name}\n{'image':24}{'zoom':>6}{'score':>8}{'said':>6}{'axon':>9}{'myelin':>9}")
        said, fibre, count = 0, 0.0, 0
        for image, grey in strange():
            found = segment(from_array(grey), model)
            zoom = found.provenance["zoom"]
            share = [float(np.mean(found.classes == value)) for value in (2, 1)]
            score = "-" if zoom["best_score"] is None else f"{zoom['best_score']:.2f}"
            told = "yes" if zoom["unlike_training"] else "no"
            print(
                f"{image:24}{zoom['chosen']:6.2f}{score:>8}{told:>6}{share[0]:9.4f}{share[1]:9.4f}",
                flush=True,
            )
            said, fibre, count = said + (told == "yes"), fibre + sum(share), count + 1
        print(f"said of {said} of {count}; {fibre / count:.2%} of pixels taken for fibre\n")


if __name__ == "__main__":
    main()
