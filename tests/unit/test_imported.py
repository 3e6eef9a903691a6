from __future__ import annotations

import copy
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ranvier.bundle import open_bundle
from ranvier.errors import (
    BundleFormatError,
    BundleNotFoundError,
    OutputExistsError,
)
from ranvier.training.imported.architecture import Architecture, architecture_from
from ranvier.training.imported.checkpoint import fitted, network_of, open_checkpoint
from ranvier.training.imported.convert import import_nnunet, rebuilt
from ranvier.training.imported.folder import ImportSettings, checkpoint_files
from ranvier.training.imported.networks import PlannedUNet
from ranvier.training.imported.plans import read_plan
from ranvier.training.network import TorchBackend

HOME = Path(__file__).parents[1] / "golden" / "nnunet"
SHAPE = Architecture(
    residual=False,
    inputs=1,
    outputs=3,
    features=(4, 6),
    kernels=((3, 3), (3, 3)),
    strides=((1, 1), (2, 2)),
    blocks=(1, 1),
    decoder_convs=(1,),
)


def folder(tmp_path, case="residual_new", plans=None, dataset=None):
    """A copy of a case's JSON files, changed."""
    for name, change in (("plans.json", plans), ("dataset.json", dataset)):
        about = json.loads((HOME / case / name).read_text())
        if change is not None:
            change(about)
        (tmp_path / name).write_text(json.dumps(about))
    return tmp_path


def two_d(**changes):
    return lambda about: about["configurations"]["2d"].update(changes)


def kwargs(**changes):
    def change(about):
        about["configurations"]["2d"]["architecture"]["arch_kwargs"].update(changes)

    return change


def test_the_plans_of_the_published_generalist_are_read(real_data):
    reference = real_data.parent / "reference" / "nnunet"
    if not reference.is_dir():
        pytest.skip(f"no plans at {reference}")
    plan = read_plan(reference, "2d")
    assert plan.patch == (384, 640)
    assert plan.architecture.features == (32, 64, 128, 256, 512, 512, 512)
    assert plan.architecture.total_stride == (64, 64)
    assert plan.architecture.blocks == (2,) * 7
    assert [c.normalisation for c in plan.channels] == ["rescale-0-1"]
    assert plan.outputs == ((0,), (1,), (2,))
    with torch.device("meta"):
        network = PlannedUNet(plan.architecture)
    assert sum(p.numel() for p in network.parameters()) == by_hand(plan.architecture)


def by_hand(shape):
    """Parameters of a plain U-Net of 3x3 convolutions with biases and affine normalisation."""

    def conv(a, b, k=9):
        return a * b * k + b

    total, before = 0, shape.inputs
    for width, blocks in zip(shape.features, shape.blocks, strict=True):
        for _ in range(blocks):
            total += conv(before, width) + 2 * width
            before = width
    for below, here, blocks in zip(
        shape.features[:0:-1], shape.features[-2::-1], shape.decoder_convs, strict=True
    ):
        total += conv(below, here, 4)
        for i in range(blocks):
            total += conv(2 * here if i == 0 else here, here) + 2 * here
    return total + conv(shape.features[0], shape.outputs, 1)


def test_old_and_new_plans_say_the_same(tmp_path):
    old = read_plan(HOME / "plain_old", "2d").architecture
    spelled = {
        "n_stages": 3,
        "features_per_stage": [4, 8, 12],
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": [3, 3, 3],
        "strides": [1, 2, 2],
        "n_conv_per_stage": 2,
        "n_conv_per_stage_decoder": [2, 2],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    name = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    changed = two_d(architecture={"network_class_name": name, "arch_kwargs": spelled})
    new = read_plan(folder(tmp_path, "plain_old", changed), "2d").architecture
    assert new == old
    assert architecture_from(json.loads(json.dumps(new.as_dict()))) == new


def test_configurations_inherit(tmp_path):
    def change(about):
        known = about["configurations"]
        known["small"] = {"inherits_from": "2d", "patch_size": [16, 24]}
        known["loop"] = {"inherits_from": "loop"}

    with pytest.raises(BundleFormatError, match="inherits"):
        read_plan(folder(tmp_path, plans=change), "small")

    def drop(about):
        change(about)
        del about["configurations"]["loop"]

    plan = read_plan(folder(tmp_path, plans=drop), "small")
    assert plan.patch == (16, 24)
    assert plan.architecture == read_plan(HOME / "residual_new", "2d").architecture


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (two_d(patch_size=[16, 32, 32]), "two-dimensional|dimensional patch"),
        (two_d(patch_size=[31, 48]), "multiple of the network's stride"),
        (two_d(spacing=[0.5, 0.5]), "resamples"),
        (two_d(previous_stage="x"), "cascade"),
        (two_d(normalization_schemes=["CTNormalization"]), "normalisation that is not"),
        (two_d(normalization_schemes=[]), "each channel"),
        (two_d(architecture={}), "arch_kwargs"),
        (two_d(architecture={"network_class_name": "a.Primus", "arch_kwargs": {}}), "network that"),
        (kwargs(squeeze_excitation=True), "parts of this network"),
        (kwargs(block="x.BottleneckD"), "parts of this network"),
        (kwargs(conv_op="torch.nn.modules.conv.Conv3d"), "parts of this network"),
        (kwargs(norm_op="torch.nn.GroupNorm"), "normalisation or activation"),
        (kwargs(nonlin="torch.nn.GELU"), "normalisation or activation"),
        (kwargs(norm_op_kwargs=[1]), "options must be objects"),
        (kwargs(norm_op_kwargs={"eps": 5}), "plans make no sense"),
        (kwargs(kernel_sizes=[[2, 2]] * 3), "kernel_sizes"),
        (kwargs(strides=[[1, 1]]), "strides"),
        (kwargs(features_per_stage=[4, 6]), "features_per_stage"),
        (kwargs(features_per_stage=[4, 6, 10**9]), "features_per_stage"),
        (kwargs(n_stages=1000), "n_stages"),
        (kwargs(n_blocks_per_stage=[1, 2, True]), "n_blocks_per_stage"),
        (kwargs(stem_channels="x"), "plans make no sense"),
        (lambda about: about.update(transpose_forward=[0, 2, 1]), "turns its images"),
        (lambda about: about.update(configurations=[]), "no configurations"),
    ],
)
def test_what_cannot_be_brought_over_is_said(tmp_path, change, message):
    with pytest.raises(BundleFormatError, match=message):
        read_plan(folder(tmp_path, plans=change), "2d")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {"background": 0, "axon": 1}}, "no myelin by name"),
        ({"labels": {"background": 0, "axon": 1, "myelin": 1}}, "of their own"),
        ({"labels": {"background": 0, "axon": 1, "myelin": 3}}, "without gaps"),
        ({"labels": {"background": 1, "axon": 0, "myelin": 2}}, "of their own"),
        ({"labels": {"background": 0, "axon": 1.5, "myelin": 2}}, "whole number"),
        ({"labels": {"background": 0, "myelin": [1, 2], "axon": 2}}, "regions_class_order"),
        ({"labels": []}, "no label map"),
        ({"channel_names": {"0": "a", "1": "b"}}, "one channel"),
    ],
)
def test_label_maps_without_axon_and_myelin_are_refused(tmp_path, change, message):
    with pytest.raises(BundleFormatError, match=message):
        read_plan(folder(tmp_path, dataset=lambda about: about.update(change)), "2d")


def test_regions_keep_what_writes_what():
    plan = read_plan(HOME / "residual_old", "2d")
    assert plan.outputs == ((1, 2), (2,))
    assert plan.order == (1, 2)
    assert plan.labels == {"background": (0,), "myelin": (1, 2), "axon": (2,)}


# Checkpoints


def save(path, weights, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"network_weights": weights, **more}, path)
    return path


def twins(shape=SHAPE, seed=0):
    """A network and its weights as nnU-Net has them: repeated, with a head of deep supervision."""
    torch.manual_seed(seed)
    network = PlannedUNet(shape).eval()
    weights = {}
    for name, tensor in network.state_dict().items():
        names = [name]
        for part, place in ((".conv.", ".all_modules.0."), (".norm.", ".all_modules.1.")):
            names += [n.replace(part, place) for n in names if part in n]
        names += [f"decoder.{n}" for n in names if n.startswith("encoder.")]
        weights |= dict.fromkeys(names, tensor)
    return network, weights


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module."])
def test_repeated_tensors_are_taken_once(tmp_path, residual, prefix):
    shape = Architecture(**{**SHAPE.as_dict(), "residual": residual, "stem": 4 * residual})
    network, weights = twins(shape)
    assert any("decoder.encoder" in n for n in weights)
    path = save(tmp_path / "c.pth", {prefix + n: t for n, t in weights.items()})
    again = network_of(shape, open_checkpoint(path).weights, path)
    image = torch.rand(1, 1, 8, 12)
    with torch.inference_mode():
        assert torch.equal(again(image), network(image))


def test_aliases_alone_are_enough():
    network, weights = twins()
    alone = {
        n: t
        for n, t in weights.items()
        if ".all_modules." in n or ("conv" not in n.split(".") and "norm" not in n.split("."))
    }
    assert len(alone) < len(weights)
    again = network_of(SHAPE, alone, Path("c.pth"))
    assert all(torch.equal(t, network.state_dict()[n]) for n, t in again.state_dict().items())


def change_copy(weights):
    name = next(n for n in weights if "all_modules.0.weight" in n)
    weights[name] = weights[name] + 1


def hollow(weights):
    name = "encoder.stages.0.0.convs.0.conv.weight"
    for n in [
        n for n in weights if n.startswith(("encoder.stages.0.0", "decoder.encoder.stages.0.0"))
    ]:
        if n.endswith("conv.weight") or n.endswith("all_modules.0.weight"):
            weights[n] = torch.zeros(1).expand(weights[name].shape)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_copy, "copies of one tensor differ"),
        (hollow, "more numbers than are stored"),
        (lambda w: w.pop("decoder.transpconvs.0.weight"), "not of the planned network"),
        (lambda w: w.update({"encoder.extra": torch.ones(1)}), "left over"),
        (lambda w: w.update({"decoder.seg_layers.0.bias": torch.ones(4)}), "of another shape"),
        (
            lambda w: w.update({"decoder.seg_layers.0.bias": torch.full((3,), torch.nan)}),
            "not finite",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, message):
    _, weights = twins()
    change(weights)
    with pytest.raises(BundleFormatError, match=message):
        network_of(SHAPE, weights, Path("c.pth"))


def test_heads_of_deep_supervision_are_left_out():
    shape = Architecture(
        **{
            **SHAPE.as_dict(),
            "features": (4, 6, 8),
            "kernels": ((3, 3),) * 3,
            "strides": ((1, 1), (2, 2), (2, 2)),
            "blocks": (1, 1, 1),
            "decoder_convs": (1, 1),
        }
    )
    _, weights = twins(shape)
    weights["decoder.seg_layers.0.weight"] = torch.ones(3, 6, 1, 1)
    assert set(network_of(shape, weights, Path("c")).decoder.seg_layers) == {"1"}


def test_huge_plans_allocate_nothing():
    wide = Architecture(
        **{**SHAPE.as_dict(), "features": (8192, 8192), "kernels": ((31, 31), (31, 31))}
    )
    with pytest.raises(BundleFormatError, match="of another shape"):
        network_of(wide, twins()[1], Path("c.pth"))


def test_batch_normalisation_of_a_trainer_is_seen(tmp_path):
    batch = Architecture(**{**SHAPE.as_dict(), "norm": "batch"})
    _, weights = twins(batch)
    opened = open_checkpoint(save(tmp_path / "c.pth", weights))
    assert fitted(SHAPE, opened) == batch
    network_of(batch, opened.weights, tmp_path)


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_code_runs_only_with_trust(tmp_path):
    sprung = tmp_path / "sprung"
    path = save(tmp_path / "c.pth", twins()[1], logging=Trap(sprung))
    with pytest.raises(BundleFormatError, match="more than tensors") as caught:
        open_checkpoint(path)
    assert "--trust" in caught.value.fix
    assert not sprung.exists()
    opened = open_checkpoint(path, trust=True)
    assert opened.trusted
    assert sprung.exists()


def test_numbers_of_numpy_need_no_trust(tmp_path):
    losses = {"a": [np.float32(1), np.float64(2)], "b": np.int64(3), "c": np.bool_(True)}
    path = save(tmp_path / "c.pth", twins()[1], logging=losses, _best_ema=np.float16(1))
    assert not open_checkpoint(path).trusted


def test_trust_is_noted_only_where_it_was_needed(tmp_path):
    assert not open_checkpoint(save(tmp_path / "c.pth", twins()[1]), trust=True).trusted


def test_zips_built_like_bombs_are_refused(tmp_path):
    whole = save(tmp_path / "c.pth", twins()[1])
    squeezed = tmp_path / "squeezed.pth"
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
        new.writestr("archive/data/999", bytes(10_000_000))
    with pytest.raises(BundleFormatError, match="as PyTorch does not write"):
        open_checkpoint(squeezed)
    lying = bytearray(whole.read_bytes())
    at = lying.rfind(b"PK\x01\x02")
    lying[at + 24 : at + 28] = (2**31).to_bytes(4, "little")
    (tmp_path / "lying.pth").write_bytes(lying)
    with pytest.raises(BundleFormatError, match="as PyTorch does not write"):
        open_checkpoint(tmp_path / "lying.pth")


def test_something_before_the_zip_is_refused(tmp_path):
    whole = save(tmp_path / "c.pth", twins()[1])
    whole.write_bytes(b"\x80\x02" + whole.read_bytes())
    with pytest.raises(BundleFormatError, match="not a checkpoint"):
        open_checkpoint(whole)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + bytes(50)])
def test_other_files_are_no_checkpoints(tmp_path, content):
    path = tmp_path / "c.pth"
    path.write_bytes(content)
    with pytest.raises(BundleFormatError, match="not a checkpoint"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"network_weights": {}},
        {"network_weights": {"a": 1}},
        {"network_weights": {"a": torch.ones(1)}, "inference_allowed_mirroring_axes": (0, 2)},
        [1],
    ],
)
def test_checkpoints_of_other_programs_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(BundleFormatError):
        open_checkpoint(tmp_path / "c.pth")


# Folders


def folds(tmp_path, *files):
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def test_which_folds_and_checkpoints_are_taken(tmp_path):
    home = folds(
        tmp_path,
        "fold_0/checkpoint_final.pth",
        "fold_0/checkpoint_best.pth",
        "fold_10/checkpoint_best.pth",
        "fold_2/checkpoint_best.pth",
        "fold_all/checkpoint_final.pth",
        "fold_3/notes.txt",
    )

    def taken(**settings):
        return [
            (fold, path.name)
            for fold, path in checkpoint_files(home, ImportSettings(**settings)).items()
        ]

    best = "checkpoint_best.pth"
    assert taken() == [("0", best), ("2", best), ("10", best)]
    assert taken(folds=("all",)) == [("all", "checkpoint_final.pth")]
    assert taken(folds=("0",)) == [("0", "checkpoint_final.pth")]
    assert taken(folds=("0",), checkpoint="best") == [("0", best)]
    with pytest.raises(BundleNotFoundError, match="not every fold"):
        taken(checkpoint="final")
    with pytest.raises(BundleNotFoundError, match="no such fold"):
        taken(folds=("3",))
    with pytest.raises(BundleNotFoundError, match="no fold"):
        checkpoint_files(tmp_path / "fold_3", ImportSettings())


@pytest.mark.parametrize("missing", ["plans.json", "dataset.json"])
def test_a_folder_that_is_no_model_says_what_is_missing(tmp_path, missing):
    folder(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(BundleNotFoundError, match="nnU-Net model") as caught:
        import_nnunet(tmp_path, tmp_path / "out", name="x")
    assert missing in str(caught.value)
    (tmp_path / missing).write_text("[" * 100_000)
    with pytest.raises(BundleFormatError, match="not JSON"):
        import_nnunet(tmp_path, tmp_path / "out", name="x")


# Bundles


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home = tmp_path_factory.mktemp("made")
    return import_nnunet(HOME / "residual_new", home / "model", name="residual").bundle


def test_the_bundle_says_where_it_comes_from(made):
    made.verify()
    assert (made.about["version"], made.kinds) == (2, ("float",))
    facts = made.about["training"]["imported"]
    assert set(facts["files"]) == {"plans.json", "dataset.json", "fold_0/checkpoint_final.pth"}
    assert made.patches.patch == (32, 48)
    assert made.patches.mirror_axes == (1,)
    assert made.patches.channels[0].masked
    assert "Imported from nnU-Net 2" in made.content("card.md").decode()


def test_weights_are_kept_as_they_are(made):
    image = np.random.default_rng(0).random((1, 1, 32, 48), np.float32)
    with np.load(io.BytesIO(made.content("golden.npz")), allow_pickle=False) as kept:
        again = TorchBackend(rebuilt(made)).logits(kept["tile"])
        np.testing.assert_allclose(again, kept["logits"], atol=1e-4)
    path = HOME / "residual_new" / "fold_0" / "checkpoint_final.pth"
    shape = read_plan(HOME / "residual_new", "2d").architecture
    direct = network_of(shape, open_checkpoint(path).weights, path)
    assert (TorchBackend(rebuilt(made)).logits(image) == TorchBackend(direct).logits(image)).all()


def test_weights_may_be_left_out(tmp_path):
    made = import_nnunet(
        HOME / "colour", tmp_path / "m", name="c", settings=ImportSettings(keep_weights=False)
    )
    assert "weights.safetensors" not in made.bundle.about["files"]
    assert any("vessel" in note for note in made.notes)
    with pytest.raises(BundleFormatError, match="keeps no weights"):
        rebuilt(made.bundle)


def test_other_folders_are_left_alone(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputExistsError):
        import_nnunet(HOME / "colour", mine, name="c")
    assert (mine / "thesis.txt").exists()


def test_a_failed_import_leaves_nothing(tmp_path, monkeypatch):
    from ranvier.training.imported import convert

    def fail(*_):
        raise BundleFormatError("no")

    monkeypatch.setattr(convert, "_card", fail)
    with pytest.raises(BundleFormatError, match="no"):
        import_nnunet(HOME / "colour", tmp_path / "m", name="c")
    assert not list(tmp_path.iterdir())


def test_the_configuration_is_found_or_asked_for(tmp_path):
    def change(about):
        known = about["configurations"]
        known["3d"] = {"inherits_from": "2d", "patch_size": [8, 8, 8]}

    home = folder(tmp_path, plans=change)
    weights = torch.load(HOME / "residual_new/fold_0/checkpoint_final.pth", weights_only=False)
    weights["init_args"] = {"configuration": "3d"}
    (home / "fold_0").mkdir()
    torch.save(weights, home / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(BundleFormatError, match="not a two-dimensional"):
        import_nnunet(home, tmp_path / "m", name="c")


def test_a_changed_bundle_is_refused(made, tmp_path):
    import shutil

    folder = tmp_path / "m"
    shutil.copytree(made.folder, folder)
    about = json.loads((folder / "model.json").read_text())
    for change, message in (
        (lambda a: a.update(version=1), "version 2, and to no other"),
        (lambda a: a.pop("patchwise"), "version 2, and to no other"),
        (lambda a: a.update(normalisation="rescale-0-1"), "unknown normalisation"),
        (lambda a: a.update(version=3), "version 2, and to no other"),
        (lambda a: a.update(version=4), "made for another version"),
    ):
        changed = copy.deepcopy(about)
        change(changed)
        (folder / "model.json").write_text(json.dumps(changed))
        with pytest.raises(BundleFormatError, match=message):
            open_bundle(folder)
    about["training"]["architecture"]["features"] = [4, "x"]
    (folder / "model.json").write_text(json.dumps(about))
    with pytest.raises(BundleFormatError, match="architecture makes no sense"):
        rebuilt(open_bundle(folder))
