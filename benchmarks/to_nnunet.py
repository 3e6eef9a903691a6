"""A training checkpoint of the plain network (recipes/paper.toml) -> a model folder of nnU-Net 2.

    python benchmarks/to_nnunet.py models/fold-0/best.safetensors... -o FOLDER [--patch 384 640]

FOLDER gets plans.json, dataset.json and fold_0, fold_1... with checkpoint_final.pth, one a checkpoint, which nnU-Net's
own predictor opens and `ranvier models import` as well. So one network, trained here, can be timed and compared in both
(benchmarks/imported.py). The patch is that of the training unless another one is given.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ranvier.errors import SettingsError
from ranvier.training.checkpoint import load_checkpoint
from ranvier.training.recipe import Recipe, recipe_from

SCHEMES = {"rescale": "RescaleTo01Normalization", "standardise": "ZScoreNormalization"}
MODULE = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


def convert(checkpoints: list[Path], folder: Path, *, patch: tuple[int, int] | None = None) -> Path:
    """Write the folder.

    Parameters
    ----------
    checkpoints
        Of one recipe each, which must be the same in network and input; the averaged weights are taken.
    folder
        Must not hold a model yet.
    patch
        Rows and columns; None takes those of the training.

    Raises
    ------
    SettingsError
        The network is not the plain one, the recipes differ, or the patch is no multiple of the network's stride.
    """
    opened = [load_checkpoint(path) for path in checkpoints]
    recipes = [
        recipe_from(c.about["recipe"], where=p) for c, p in zip(opened, checkpoints, strict=True)
    ]
    recipe = recipes[0]
    for other, path in zip(recipes, checkpoints, strict=True):
        if other.network.kind != "plain":
            raise SettingsError("not a plain network", where=path, seen=other.network.kind)
        if (other.network, other.input) != (recipe.network, recipe.input):
            raise SettingsError("a network or input of another recipe", where=path)
    chosen = patch or recipe.schedule.patch
    if any(edge % recipe.network.stride for edge in chosen):
        raise SettingsError(
            f"the patch must be a multiple of {recipe.network.stride}", where="--patch", seen=chosen
        )
    images = opened[0].about["images"]
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "plans.json", plans(recipe, chosen))
    _write(folder / "dataset.json", dataset(len(images["train"]) + len(images["validation"])))
    for fold, checkpoint in enumerate(opened):
        home = folder / f"fold_{fold}"
        home.mkdir()
        torch.save(content(checkpoint.average, fold), home / "checkpoint_final.pth")
    return folder


def content(weights: dict[str, Tensor], fold: int) -> dict[str, Any]:
    """What nnU-Net's predictor reads of a checkpoint."""
    return {
        "network_weights": named_as_nnunet(weights),
        "init_args": {"configuration": "2d", "fold": fold},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
    }


def named_as_nnunet(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a :class:`ranvier.training.plain_unet.PlainUNet` by every name that nnU-Net has for them.

    nnU-Net's module holds each convolution and normalisation twice, and the encoder once more inside of the decoder.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        part, index, *rest = name.split(".")
        if part in ("grow", "heads"):
            place = {"grow": "transpconvs", "heads": "seg_layers"}[part]
            found[f"decoder.{place}.{index}.{rest[0]}"] = tensor
            continue
        layer, what = int(rest[0]), rest[1]  # of each three: convolution, normalisation, leaky ReLU
        stage = f"encoder.stages.{index}.0" if part == "down" else f"decoder.stages.{index}"
        unit = f"{stage}.convs.{layer // 3}"
        for alias in (("conv", "all_modules.0"), ("norm", "all_modules.1"))[layer % 3]:
            found[f"{unit}.{alias}.{what}"] = tensor
    inside = {n: t for n, t in found.items() if n.startswith("encoder.")}
    return {**found, **{f"decoder.{name}": tensor for name, tensor in inside.items()}}


def plans(recipe: Recipe, patch: tuple[int, int]) -> dict[str, Any]:
    """plans.json with one configuration, 2d."""
    channels, convs = recipe.network.channels, recipe.network.convs
    stages = len(channels)
    resampling: dict[str, Any] = {}
    for what in ("data", "seg", "probabilities"):
        key = f"resampling_fn_{what}"
        resampling[key] = "resample_data_or_seg_to_shape"
        resampling[f"{key}_kwargs"] = {
            "is_seg": what == "seg",
            "order": 3 if what == "data" else 1,
            "order_z": 0,
            "force_separate_z": None,
        }
    options = {
        "n_stages": stages,
        "features_per_stage": list(channels),
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": [[3, 3]] * stages,
        "strides": [[1, 1], *[[2, 2]] * (stages - 1)],
        "n_conv_per_stage": [convs] * stages,
        "n_conv_per_stage_decoder": [convs] * (stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    configuration = {
        "data_identifier": "nnUNetPlans_2d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": recipe.schedule.batch,
        "patch_size": list(patch),
        "median_image_size_in_voxels": [float(edge) for edge in patch],
        "spacing": [1.0, 1.0],
        "normalization_schemes": [SCHEMES[recipe.input.normalisation]],
        "use_mask_for_norm": [False],
        **resampling,
        "batch_dice": recipe.loss.batch_dice,
        "architecture": {
            "network_class_name": MODULE,
            "arch_kwargs": options,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    intensities = dict.fromkeys(
        ("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"), 0.0
    )
    return {
        "dataset_name": "Dataset001_Ranvier",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [999.0, 1.0, 1.0],
        "original_median_shape_after_transp": [1, *patch],
        "image_reader_writer": "NaturalImage2DIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"2d": configuration},
        "experiment_planner_used": "none",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
    }


def dataset(images: int) -> dict[str, Any]:
    """dataset.json."""
    return {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, "myelin": 1, "axon": 2},
        "numTraining": images,
        "file_ending": ".png",
    }


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Convert what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--patch", nargs=2, type=int)
    chosen = parser.parse_args()
    patch = tuple(chosen.patch) if chosen.patch else None
    print(convert(chosen.checkpoints, chosen.output, patch=patch))


if __name__ == "__main__":
    main()
