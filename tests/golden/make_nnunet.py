"""Make tests/golden/nnunet: small models in nnU-Net's own form, and what its own predictor says with them.

nnU-Net (https://github.com/MIC-DKFZ/nnUNet) brings gigabytes along, so it is no dependency of the tests. This script
needs it, in an environment of its own:

    python3.11 -m venv /tmp/nnv
    /tmp/nnv/bin/pip install torch --index-url https://download.pytorch.org/whl/cpu
    /tmp/nnv/bin/pip install nnunetv2
    PYTHONPATH=src /tmp/nnv/bin/python tests/golden/make_nnunet.py

It takes a few minutes. Names of cases as arguments make these only. Networks are built by nnU-Net from its plans and
trained for a few steps on drawn rings; ``trained`` goes the whole way instead: phantoms, written by ``export_nnunet``
(as ``ranvier data export --to nnunet`` does), planned, preprocessed and trained by nnU-Net itself for three epochs of
150 iterations.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SCRATCH = Path(tempfile.mkdtemp(prefix="nnunet-"))
for key in ("raw", "preprocessed", "results"):
    (SCRATCH / key).mkdir()
    os.environ[f"nnUNet_{key}"] = str(SCRATCH / key)
os.environ |= {"nnUNet_n_proc_DA": "0", "nnUNet_compile": "f"}

import numpy as np
import torch
from dynamic_network_architectures import architectures
from dynamic_network_architectures.architectures import unet

# Old plans with residual encoders name a module that has moved; nnU-Net would import all of the package to find it.
sys.modules["dynamic_network_architectures.architectures.residual_unet"] = unet
architectures.residual_unet = unet

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from PIL import Image

HOME = Path(__file__).parent / "nnunet"
PATCH = (32, 48)
STEPS = 40
LABELS = {"background": 0, "myelin": 1, "axon": 2}


def rings(shape: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs in dark rings on grey with noise: grey levels in [0, 1] and labels 0, 1, 2."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.uint8)
    for _ in range(max(4, shape[0] * shape[1] // 220)):
        far = np.hypot(
            rows - rng.uniform(0, shape[0]),
            (columns - rng.uniform(0, shape[1])) * rng.uniform(0.8, 1.2),
        )
        radius = rng.uniform(3, 7)
        labels[far < radius + 2.5] = 1
        labels[far < radius] = 2
    grey = np.array([0.55, 0.15, 0.85])[labels] + rng.normal(0, 0.06, shape)
    grey += 0.1 * np.sin(rows / 17) * np.cos(columns / 23)
    return np.clip(grey, 0.02, 1).astype(np.float32), labels


def images(case: str) -> dict[str, np.ndarray]:
    """Images of a case, as their files hold them."""
    plain = np.rint(rings((71, 101), 100)[0] * 255).astype(np.uint8)
    small = np.rint(rings((21, 40), 101)[0] * 255).astype(np.uint8)
    framed = np.zeros((70, 88), np.uint8)
    framed[9:63, 5:77] = np.rint(rings((54, 72), 102)[0] * 255)
    framed[30:34, 40:44] = 0
    deep = np.rint(rings((33, 97), 103)[0] * 40000 + 300).astype(np.uint16)
    if case == "colour":
        coloured = np.stack([plain, 255 - plain, np.roll(plain, 5, 1) // 2], axis=-1)
        return {"plain": coloured, "small": coloured[:25, :31]}
    if case in ("plain_old", "residual_new"):
        return {"plain": plain, "small": small, "framed": framed, "deep": deep}
    return {"plain": plain[:50, :70], "small": small}


def configuration(style: str, network: str, scheme: str, channels: int, masked: bool) -> dict:
    """The 2d part of plans.json, in the old style or the new one."""
    resampling = {
        f"resampling_fn_{what}": "resample_data_or_seg_to_shape"
        for what in ("data", "seg", "probabilities")
    } | {
        f"resampling_fn_{what}_kwargs": {
            "is_seg": what == "seg",
            "order": 3 if what == "data" else 1,
            "order_z": 0,
            "force_separate_z": None,
        }
        for what in ("data", "seg", "probabilities")
    }
    base = {
        "data_identifier": "nnUNetPlans_2d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 4,
        "patch_size": list(PATCH),
        "median_image_size_in_voxels": [70.0, 100.0],
        "spacing": [1.0, 1.0],
        "normalization_schemes": [scheme] * channels,
        "use_mask_for_norm": [masked] * channels,
        **resampling,
        "batch_dice": True,
    }
    if style == "old":
        return base | {
            "UNet_class_name": network,
            "UNet_base_num_features": 4,
            "n_conv_per_stage_encoder": [2, 2, 2] if network == "PlainConvUNet" else [1, 2, 2],
            "n_conv_per_stage_decoder": [2, 2] if network == "PlainConvUNet" else [1, 1],
            "num_pool_per_axis": [2, 2],
            "pool_op_kernel_sizes": [[1, 1], [2, 2], [2, 2]],
            "conv_kernel_sizes": [[3, 3], [3, 3], [3, 3]],
            "unet_max_num_features": 12,
        }
    residual = network == "ResidualEncoderUNet"
    return base | {
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{network}",
            "arch_kwargs": {
                "n_stages": 3,
                "features_per_stage": [4, 6, 8],
                "conv_op": "torch.nn.modules.conv.Conv2d",
                "kernel_sizes": [[3, 3], [3, 3], [1, 3]] if residual else [[3, 3]] * 3,
                "strides": [[1, 1], [2, 2], [1, 2]] if residual else [[1, 1], [2, 2], [2, 2]],
                ("n_blocks_per_stage" if residual else "n_conv_per_stage"): [1, 2, 2],
                "n_conv_per_stage_decoder": [1, 1],
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }
    }


def plans(config: dict) -> dict:
    return {
        "dataset_name": "Dataset901_Rings",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [999.0, 1.0, 1.0],
        "original_median_shape_after_transp": [1, 70, 100],
        "image_reader_writer": "NaturalImage2DIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"2d": config},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(c): {
                "max": 255.0,
                "mean": 127.0,
                "median": 127.0,
                "min": 0.0,
                "percentile_00_5": 3.0,
                "percentile_99_5": 250.0,
                "std": 60.0,
            }
            for c in range(3)
        },
    }


def dataset(names: list[str], labels: dict, order: list[int] | None = None) -> dict:
    about = {
        "channel_names": {str(i): name for i, name in enumerate(names)},
        "labels": labels,
        "numTraining": 12,
        "file_ending": ".png",
    }
    return about if order is None else {**about, "regions_class_order": order}


CASES = {
    "plain_old": {
        "config": configuration("old", "PlainConvUNet", "RescaleTo01Normalization", 1, False),
        "dataset": dataset(["rescale_to_0_1"], LABELS),
        "folds": ["all"],
        "axes": (0, 1),
    },
    "residual_new": {
        "config": configuration("new", "ResidualEncoderUNet", "ZScoreNormalization", 1, True),
        "dataset": dataset(["SEM"], LABELS),
        "folds": ["0"],
        "axes": (1,),
    },
    "ensemble": {
        "config": configuration("new", "PlainConvUNet", "RescaleTo01Normalization", 1, False),
        "dataset": dataset(["rescale_to_0_1"], LABELS),
        "folds": list("01234"),
        "axes": (0, 1),
    },
    "colour": {
        "config": configuration("new", "PlainConvUNet", "RGBTo01Normalization", 3, False),
        "dataset": dataset(
            ["red", "green", "blue"], {"background": 0, "Axon": 1, "vessel": 2, "Myelin": 3}
        ),
        "folds": ["0"],
        "axes": None,
    },
    "residual_old": {
        "config": configuration("old", "ResidualEncoderUNet", "ZScoreNormalization", 1, False),
        "dataset": dataset(
            ["BF"], {"background": 0, "myelin": [1, 2], "axon": [2], "ignore": 3}, [1, 2]
        ),
        "folds": ["0"],
        "axes": (0, 1),
    },
}


def truth(labels: np.ndarray, case: str) -> torch.Tensor:
    """What the outputs should be: labels, or planes of regions."""
    if case == "residual_old":
        return torch.from_numpy(np.stack([labels > 0, labels == 2], 1).astype(np.float32))
    if case == "colour":
        return torch.from_numpy(np.array([0, 3, 1])[labels])
    return torch.from_numpy(labels.astype(np.int64))


def normalised(grey: np.ndarray, case: str) -> np.ndarray:
    if case == "colour":
        return np.stack([grey, 1 - grey, np.roll(grey, 5, -1) / 2], 1)
    if case in ("residual_new", "residual_old"):
        return ((grey - grey.mean()) / grey.std())[:, None]
    return grey[:, None]


def train(case: str, about: dict, fold: int) -> dict:
    """A checkpoint as nnU-Net writes it, after a few steps."""
    torch.manual_seed(fold)
    manager = PlansManager(plans(about["config"]))
    config = manager.get_configuration("2d")
    network = get_network_from_plans(
        config.network_arch_class_name,
        config.network_arch_init_kwargs,
        config.network_arch_init_kwargs_req_import,
        determine_num_input_channels(manager, config, about["dataset"]),
        manager.get_label_manager(about["dataset"]).num_segmentation_heads,
        deep_supervision=False,
    )
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    regions = case == "residual_old"
    loss = torch.nn.BCEWithLogitsLoss() if regions else torch.nn.CrossEntropyLoss()
    for step in range(STEPS):
        drawn = [rings(PATCH, 1000 * fold + 8 * step + i) for i in range(4)]
        image = torch.from_numpy(
            normalised(np.stack([d[0] for d in drawn]), case).astype(np.float32)
        )
        optimiser.zero_grad()
        loss(network(image), truth(np.stack([d[1] for d in drawn]), case)).backward()
        optimiser.step()
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": {},
        "grad_scaler_state": None,
        "logging": {"train_losses": [np.float32(0.5), np.float64(0.25)]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1,
        "init_args": {"configuration": "2d", "fold": fold, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": about["axes"],
    }


def predicted(folder: Path, folds: list[str], which: str, pixels: np.ndarray) -> dict:
    """Logits and class map of nnU-Net's own predictor."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), folds, f"checkpoint_{which}.pth")
    file = SCRATCH / "image_0000.png"
    Image.fromarray(pixels).save(file)
    config = predictor.configuration_manager
    data, _, _ = config.preprocessor_class(verbose=False).run_case(
        [str(file)], None, predictor.plans_manager, config, predictor.dataset_json
    )
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data))
    (classes,) = predictor.predict_from_files_sequential([[str(file)]], None)
    assert logits.dtype == torch.float16
    return {"logits": logits[:, 0].numpy(), "classes": classes[0].astype(np.uint8)}


def keep(case: str, folder: Path, folds: list[str], which: str) -> None:
    """Store images and what nnU-Net says of them."""
    found = {}
    for name, pixels in images(case).items():
        found[f"{name}/image"] = pixels
        for key, value in predicted(folder, folds, which, pixels).items():
            found[f"{name}/{key}"] = value
    np.savez_compressed(HOME / f"{case}.npz", **found)
    seen = {name: np.bincount(v.ravel()).tolist() for name, v in found.items() if "classes" in name}
    print(case, seen, flush=True)


def by_hand(wanted: list[str]) -> None:
    """Build, train and predict every case."""
    for case, about in CASES.items():
        if case not in wanted:
            continue
        folder = HOME / case
        folder.mkdir()
        (folder / "plans.json").write_text(json.dumps(plans(about["config"]), indent=1))
        (folder / "dataset.json").write_text(json.dumps(about["dataset"], indent=1))
        for number, fold in enumerate(about["folds"]):
            (folder / f"fold_{fold}").mkdir()
            torch.save(train(case, about, number), folder / f"fold_{fold}" / "checkpoint_final.pth")
        keep(case, folder, about["folds"], "final")


def the_whole_way() -> None:
    """Our export -> nnU-Net's own planning, preprocessing and training -> its predictor."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    subprocess.run(
        [sys.executable, "-c", EXPORT, str(SCRATCH / "phantoms"), str(SCRATCH / "raw")],
        check=True,
    )
    tool = Path(sys.executable).with_name("nnUNetv2_plan_and_preprocess")
    subprocess.run(
        [tool, "-d", "902", "-c", "2d", "-np", "1", "-npfp", "1"],
        check=True,
        env={**os.environ, "nnUNet_n_proc_DA": "1"},
    )
    made = next((SCRATCH / "preprocessed").glob("Dataset902*"))
    planned = json.loads((made / "nnUNetPlans.json").read_text())
    config = planned["configurations"]["2d"]
    kwargs = config["architecture"]["arch_kwargs"]
    stages = 3
    for key, value in kwargs.items():
        if isinstance(value, list):
            kwargs[key] = value[: stages - (key == "n_conv_per_stage_decoder")]
    kwargs |= {"n_stages": stages, "features_per_stage": [4, 6, 8]}
    config |= {"patch_size": list(PATCH), "batch_size": 2}
    (made / "nnUNetPlans.json").write_text(json.dumps(planned))
    trainer = nnUNetTrainer(
        {**planned, "continue_training": False},
        "2d",
        0,
        json.loads((made / "dataset.json").read_text()),
        torch.device("cpu"),
    )
    trainer.num_epochs, trainer.num_iterations_per_epoch = 3, 150
    trainer.num_val_iterations_per_epoch = 1
    trainer.run_training()
    folder = HOME / "trained"
    (folder / "fold_0").mkdir(parents=True)
    for name in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth"):
        shutil.copy(Path(trainer.output_folder_base) / name, folder / name)
    keep("trained", folder, ["0"], "final")


EXPORT = """
import sys
from pathlib import Path
from ranvier.datasets.aggregate import aggregate
from ranvier.datasets.collection import read_datasets
from ranvier.datasets.nnunet_export import export_nnunet
from ranvier.datasets.phantom import PhantomSettings, draw, write_dataset

home = Path(sys.argv[1])
write_dataset(
    home / "sem",
    [draw(PhantomSettings(shape=(96, 96), look="SEM", seed=seed)) for seed in range(5)],
)
made = aggregate(read_datasets([home / "sem"]), name="PHANTOMS")
export_nnunet(made, Path(sys.argv[2]), number=902)
"""


if __name__ == "__main__":
    wanted = sys.argv[1:] or [*CASES, "trained"]
    for case in wanted:
        shutil.rmtree(HOME / case, ignore_errors=True)
    HOME.mkdir(exist_ok=True)
    by_hand(wanted)
    if "trained" in wanted:
        the_whole_way()
    shutil.rmtree(SCRATCH)
    print(sum(f.stat().st_size for f in HOME.rglob("*") if f.is_file()), "bytes")
