"""nnU-Net's own predictor on one image after the other; run by benchmarks/imported.py in an environment with nnunetv2.

    PYTHON benchmarks/nnunet_predictor.py FOLDER --folds 0 --threads 2

FOLDER is a model as nnU-Net keeps it. Each line of standard input names a .npy file of float32 grey levels, shape
(channels, rows, columns); the label of every pixel is written over it, and a line of JSON says how many seconds that
took, from grey levels in memory to labels in memory: cropping, normalisation, patches and their mirror images, and what
nnU-Net does to its logits at the end. Settings are the predictor's defaults. The first line of JSON says the versions.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("nnUNet_compile", "f")

import numpy as np
import torch


def main() -> None:
    """Answer until standard input ends."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--folds", nargs="+", required=True)
    parser.add_argument("--checkpoint", default="checkpoint_final.pth")
    parser.add_argument("--threads", type=int, required=True)
    chosen = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr  # nnU-Net prints to standard output
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    torch.set_num_threads(chosen.threads)
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(
        str(chosen.folder), chosen.folds, chosen.checkpoint
    )
    versions = {"nnunetv2": version("nnunetv2"), "torch": str(torch.__version__)}
    print(json.dumps(versions), file=answers, flush=True)
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        image = np.load(path, allow_pickle=False)
        started = time.perf_counter()
        labels = predictor.predict_single_npy_array(image[:, None], {"spacing": (999.0, 1.0, 1.0)})
        seconds = time.perf_counter() - started
        np.save(path, np.asarray(labels)[0].astype(np.uint16))
        threads = torch.get_num_threads()
        print(json.dumps({"seconds": seconds, "threads": threads}), file=answers, flush=True)


if __name__ == "__main__":
    main()
