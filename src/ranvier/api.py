"""The public functions, each from the room that it lives in."""

from __future__ import annotations

from ranvier.evaluation import evaluate
from ranvier.exporting import save
from ranvier.inference import load_model, segment
from ranvier.reading import read
from ranvier.segmentations import measure_segmentation as measure

__all__ = ["evaluate", "load_model", "measure", "read", "save", "segment"]
