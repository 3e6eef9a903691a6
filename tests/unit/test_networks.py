"""Networks, what they are trained with, and how a bundle shows them its images."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn

from ranvier.backends import OpenVinoBackend
from ranvier.datasets.collection import read_datasets
from ranvier.datasets.folds import split
from ranvier.errors import SettingsError
from ranvier.inference import InferenceSettings, Model, load_model, segment, tile_logits
from ranvier.preprocess import normalise, rescale, statistics
from ranvier.reading import from_array
from ranvier.training import loop, optimisation
from ranvier.training.checkpoint import load_checkpoint
from ranvier.training.device import Place
from ranvier.training.export import export_bundle
from ranvier.training.loop import LAST, train
from ranvier.training.loss import segmentation_loss, supervision_weights, training_loss
from ranvier.training.network import CompactUNet, TorchBackend, field_of, make_network
from ranvier.training.optimisation import learning_rate, make_optimiser, mixed, settled
from ranvier.training.plain_unet import PlainUNet
from ranvier.training.recipe import (
    LossSettings,
    NetworkSettings,
    ScheduleSettings,
    read_recipe,
)

SMALL = NetworkSettings(kind="plain", channels=(4, 6, 8), deep_supervision=True)
PLANNED = {
    "base": 32, "most": 512, "encoder": [2] * 7, "decoder": [2] * 6, "kernels": [[3, 3]] * 7,
    "strides": [[1, 1]] + [[2, 2]] * 6,
}  # fmt: skip
"""The architecture of the published generalist's plans.json."""


def tiny(recipe, **schedule):
    """The recipe with a network and patches that a test can afford, on the CPU."""
    return dataclasses.replace(
        recipe,
        network=dataclasses.replace(recipe.network, channels=(4, 6, 8)),
        schedule=dataclasses.replace(
            recipe.schedule, patch=(32, 64), batch=3, precision="f32", **schedule
        ),
    )


def test_the_papers_network_has_the_published_number_of_parameters():
    """By formula: convolutions with bias and affine norms, transposed convolutions, heads of three classes."""
    stages = len(PLANNED["encoder"])
    channels = [min(PLANNED["most"], PLANNED["base"] << i) for i in range(stages)]

    def stage(inputs, outputs, convs, kernel):
        width = [inputs] + [outputs] * (convs - 1)
        return sum(w * outputs * kernel[0] * kernel[1] + 3 * outputs for w in width)

    total = sum(
        stage(a, b, n, k)
        for a, b, n, k in zip(
            [1, *channels[:-1]], channels, PLANNED["encoder"], PLANNED["kernels"], strict=True
        )
    )
    for i, convs in enumerate(PLANNED["decoder"]):
        low, high = channels[-1 - i], channels[-2 - i]
        up, down = PLANNED["strides"][-1 - i]
        total += low * high * up * down + high
        total += stage(2 * high, high, convs, PLANNED["kernels"][-2 - i]) + 3 * high + 3
    with torch.device("meta"):
        network = make_network(read_recipe("paper").network)
    assert sum(p.numel() for p in network.parameters()) == total == 33_473_330


def test_weights_begin_as_nnunet_begins_them():
    torch.manual_seed(0)
    network = PlainUNet(NetworkSettings(kind="plain", channels=(32, 64)))
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert not module.bias.any()
            fan_in = module.weight[0].numel()
            std = float(module.weight.detach().std())
            assert std == pytest.approx((2 / (1 + 0.01**2) / fan_in) ** 0.5, rel=0.2)
        if isinstance(module, nn.InstanceNorm2d):
            assert module.eps == 1e-5
            assert module.affine
            assert not module.track_running_stats
        if isinstance(module, nn.LeakyReLU):
            assert module.negative_slope == 0.01


def test_in_training_every_decoder_stage_segments_and_afterwards_the_last():
    network = PlainUNet(SMALL)
    grey = torch.randn(2, 1, 16, 24)
    deep = network(grey)
    assert [tuple(o.shape) for o in deep] == [(2, 3, 16, 24), (2, 3, 8, 12)]
    with torch.no_grad():
        assert torch.equal(network.eval()(grey), deep[0])
    alone = PlainUNet(dataclasses.replace(SMALL, deep_supervision=False))
    alone.load_state_dict(network.state_dict())
    assert torch.equal(alone.train()(grey), deep[0])


@pytest.mark.parametrize("shuffle", [1, 2, 4])
def test_the_receptive_field_is_what_the_geometry_says(shuffle):
    """Found by experiment: a change beyond the radius from an aligned block moves nothing."""
    for depth in (2, 3, 5):
        settings = NetworkSettings(shuffle=shuffle, channels=(4,) * depth)
        torch.manual_seed(0)
        assert_reach(CompactUNet(settings).eval(), field_of(settings))


def test_the_plain_networks_convolutions_reach_as_far_as_said():
    """Without its norms, with weights that no change can hide behind: exactly so far and no further."""
    for depth, convs in ((2, 1), (2, 2), (3, 2), (4, 1), (4, 3), (5, 2)):
        settings = NetworkSettings(kind="plain", channels=(2,) * depth, convs=convs)
        network = PlainUNet(settings).eval().double()
        for stage in (*network.down, *network.up):
            for index, layer in enumerate(stage):
                if isinstance(layer, nn.InstanceNorm2d):
                    stage[index] = nn.Identity()
        for weights in network.parameters():
            weights.data.fill_(0.1)
        field = field_of(settings)
        assert_reach(network, field)
        assert_reach(network, field, exact=True)


def assert_reach(network, field, *, exact=False):
    edge = -(-(2 * field.receptive_radius + 3 * field.stride) // field.stride) * field.stride
    kind = next(network.parameters()).dtype
    grey = torch.randn(1, 1, *((16, edge) if exact else (edge, edge)), dtype=kind)
    block = edge // 2 // field.stride * field.stride
    outside = grey.clone()
    left = block - field.receptive_radius
    assert left > 0
    outside[..., : left + exact] += 100
    with torch.inference_mode():
        before, after = network(grey), network(outside)
    assert torch.equal(before[..., block:], after[..., block:]) != exact
    assert not torch.equal(before[..., :block], after[..., :block])


def test_the_papers_geometry():
    field = field_of(read_recipe("paper").network)
    assert (field.stride, field.receptive_radius, field.halo) == (64, 319, 320)


def test_the_loss_falls_to_zero_for_the_truth_and_only_for_it():
    classes = torch.randint(0, 3, (2, 16, 16))
    truth = nn.functional.one_hot(classes, 3).movedim(-1, 1).float() * 50
    for settings in (LossSettings(), LossSettings(smooth=1e-5, batch_dice=False)):
        assert float(segmentation_loss(truth, classes, settings)) < 1e-3
        assert float(segmentation_loss(truth.roll(1, dims=1), classes, settings)) > 1


def test_batch_dice_counts_a_class_that_only_one_patch_has():
    classes = torch.zeros(2, 8, 8, dtype=torch.int64)
    classes[0, :4], classes[0, 4:] = 1, 2
    logits = nn.functional.one_hot(classes, 3).movedim(-1, 1).float() * 50
    logits[1, 1] += 49  # a little myelin where there is none
    together, each = (
        float(segmentation_loss(logits, classes, LossSettings(smooth=1e-5, batch_dice=b)))
        for b in (True, False)
    )
    assert each > together + 0.1


def test_deep_supervision_weighs_each_resolution_half_as_much():
    assert supervision_weights(6) == pytest.approx(np.array([16, 8, 4, 2, 1, 0]) / 31)
    assert supervision_weights(1) == (1.0,)
    classes = torch.randint(0, 3, (2, 16, 32))
    outputs = [torch.randn(2, 3, 16 >> i, 32 >> i, requires_grad=True) for i in range(3)]
    loss = training_loss(tuple(outputs), classes)
    small = classes[:, 1::2, 1::2]
    expected = 2 / 3 * segmentation_loss(outputs[0], classes)
    expected = expected + 1 / 3 * segmentation_loss(outputs[1], small)
    assert loss.item() == pytest.approx(expected.item())
    loss.backward()
    assert [o.grad is not None for o in outputs] == [True, True, False]
    assert torch.equal(training_loss(outputs[0], classes), segmentation_loss(outputs[0], classes))


def test_cosine_warms_up_and_ends_at_zero():
    settings = ScheduleSettings(learning_rate=1.0, warmup_steps=10, steps=100)
    assert learning_rate(settings, 0, 0) == pytest.approx(0.1)
    assert learning_rate(settings, 50, 0.5) == pytest.approx(0.5)
    assert learning_rate(settings, 100, 1.2) == pytest.approx(0)


def test_poly_falls_epoch_by_epoch_as_nnunets_does():
    settings = read_recipe("paper").schedule
    for step in (0, 249, 250, 251, 7 * 250, 124_999, 125_000, 249_999):
        expected = 1e-2 * (1 - (step // 250) / 1000) ** 0.9
        assert learning_rate(settings, step, step / 250_000) == pytest.approx(expected)
    starts = [learning_rate(settings, e * 250, e * 250 / 250_000) for e in range(1000)]
    assert np.allclose(starts, 1e-2 * (1 - np.arange(1000) / 1000) ** 0.9, rtol=1e-9)
    assert learning_rate(settings, 250_000, 1.0) == 0


def test_the_optimiser_is_the_recipes():
    weights = [nn.Parameter(torch.ones(2))]
    adam, sgd = (
        make_optimiser(read_recipe(name).schedule, weights) for name in ("compact", "paper")
    )
    assert isinstance(adam, torch.optim.AdamW)
    assert adam.defaults["weight_decay"] == 1e-2
    assert isinstance(sgd, torch.optim.SGD)
    of_sgd = {k: sgd.defaults[k] for k in ("lr", "momentum", "nesterov", "weight_decay")}
    assert of_sgd == {"lr": 1e-2, "momentum": 0.99, "nesterov": True, "weight_decay": 3e-5}


def test_half_precision_is_for_cuda_only():
    for use in (settled, lambda p: TorchBackend(nn.Identity(), precision=p)):
        with pytest.raises(SettingsError, match="needs a CUDA device"):
            use("f16")
    assert settled("f16", "cuda") == "f16"
    with mixed("f32"):
        assert not torch.is_autocast_enabled("cpu")
    with mixed("bf16"):
        assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    ("device", "able", "expected"),
    [
        ("cpu", True, "bf16"),
        ("cpu", False, "f32"),
        ("cuda", True, "bf16"),
        ("cuda", False, "f16"),
        ("mps", False, "f32"),
    ],
)
def test_auto_takes_16_bits_where_the_device_computes_them(monkeypatch, device, able, expected):
    monkeypatch.setattr(optimisation, "computes_bf16", lambda kind: able)
    assert settled("auto", device) == expected
    assert settled("bf16", device) == "bf16"
    assert settled("f32", device) == "f32"


@pytest.mark.parametrize(
    ("machine", "library", "instructions", "expected"),
    [
        ("x86_64", True, True, True),
        ("AMD64", True, False, False),
        ("x86_64", False, True, False),
        ("aarch64", True, False, True),
        ("arm64", False, False, False),
    ],
)
def test_a_cpu_computes_bf16_by_instructions_not_by_emulation(
    monkeypatch, machine, library, instructions, expected
):
    monkeypatch.setattr(optimisation.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: library)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    assert optimisation.computes_bf16("cpu") is (expected and torch.backends.mkldnn.is_available())


def test_whoever_asks_for_bf16_is_told_where_it_is_slow(monkeypatch):
    monkeypatch.setattr("ranvier.training.device.computes_bf16", lambda kind: False)
    place = Place(torch.device("cpu"), "bf16")
    assert "no instructions for bf16" in place.notes("bf16")[0]
    assert place.notes("f32") == ()
    assert Place(torch.device("cpu")).notes("auto") == ("computing in f32 on cpu",)
    monkeypatch.setattr("ranvier.training.device.computes_bf16", lambda kind: True)
    assert place.notes("bf16") == ()


@pytest.fixture(scope="module")
def images(phantom_data):
    return split(read_datasets([phantom_data]), fold=0, folds=3)


@pytest.fixture(scope="module")
def paper(images, tmp_path_factory):
    """Two steps of the paper's recipe, with a tiny network and tiny patches."""
    recipe = tiny(read_recipe("paper"), steps=2, validate_every_steps=1)
    folder = tmp_path_factory.mktemp("paper")
    result = train(images, recipe, folder, report=lambda text: None)
    return recipe, result, export_bundle(
        result.best, images, folder / "model", name="toy", int8=False
    )  # fmt: skip


def test_the_papers_recipe_takes_its_steps(paper):
    recipe, result, _ = paper
    checkpoint = load_checkpoint(result.best.parent / LAST)
    assert result.steps == 2
    assert len(result.scores) == 2
    assert json.loads(json.dumps(recipe.as_dict())) == checkpoint.about["recipe"]
    moments = {name.split("/")[1] for name in checkpoint.optimiser}
    assert moments == {"momentum_buffer"}
    for name, weights in checkpoint.network.items():
        assert torch.equal(weights, checkpoint.average[name])  # no averaging
        assert torch.isfinite(weights).all()


def test_the_papers_recipe_resumes_bit_for_bit(paper, images, tmp_path, monkeypatch):
    def stops(run, *rest):
        validate(run, *rest)
        raise KeyboardInterrupt

    recipe, result, _ = paper
    validate = loop._Run._validate
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop._Run, "_validate", stops)
        train(images, recipe, tmp_path, report=lambda text: None)
    train(images, recipe, tmp_path, resume=True, report=lambda text: None)
    resumed, whole = (load_checkpoint(f / LAST) for f in (tmp_path, result.best.parent))
    assert all(torch.equal(resumed.network[k], whole.network[k]) for k in whole.network)
    assert all(torch.equal(resumed.optimiser[k], whole.optimiser[k]) for k in whole.optimiser)


def test_half_precision_is_refused_before_any_image_is_read(tmp_path):
    recipe = read_recipe("paper")
    with pytest.raises(SettingsError, match="needs a CUDA device"):
        train(None, recipe, tmp_path, report=lambda text: None)


def test_a_rescaling_bundle_gives_what_the_network_gives_on_rescaled_pixels(paper):
    recipe, result, bundle = paper
    assert bundle.normalisation == "rescale-0-1"
    network = make_network(recipe.network).eval()
    network.load_state_dict(load_checkpoint(result.best).average)
    pixels = np.random.default_rng(0).integers(40, 200, (128, 192)).astype(np.uint8)
    shown = (pixels.astype(np.float32) - pixels.min()) / (pixels.max() - pixels.min())
    expected = TorchBackend(network).logits(shown[None, None])[0]
    backend = OpenVinoBackend(*bundle.graph("float"))
    ((_, found),) = tile_logits(
        pixels,
        statistics(pixels),
        backend,
        field=bundle.field,
        settings=InferenceSettings(zoom=1.0, views=1),
        normalisation=bundle.normalisation,
    )
    assert np.abs(found - expected).max() < 1e-2 * np.ptp(expected)  # weights are in 16 bits
    model = load_model(bundle.folder)
    classes = segment(
        from_array(pixels), model, settings=InferenceSettings(zoom=1.0, views=1)
    ).classes
    assert (classes == expected.argmax(axis=0)).mean() > 0.99


def test_segment_shows_the_network_what_the_bundle_says(paper):
    """The same backend under the other normalisation would see other grey levels."""
    _, _, bundle = paper
    seen = []

    class Spy:
        def __init__(self):
            self.description = {}

        def logits(self, tiles):
            seen.append(tiles)
            return np.zeros((1, 3, *tiles.shape[2:]), dtype=np.float32)

    pixels = np.random.default_rng(0).integers(40, 200, (128, 192)).astype(np.uint8)
    segment(from_array(pixels), Model(bundle, Spy()), settings=InferenceSettings(zoom=1.0, views=1))
    assert np.array_equal(seen[0][0, 0], rescale(pixels, statistics(pixels)))


def test_rescaling_goes_from_zero_to_one():
    for dtype in (np.uint8, np.uint16, np.float32):
        pixels = np.random.default_rng(0).integers(3, 250, (40, 50)).astype(dtype)
        grey = statistics(pixels)
        whole = normalise(pixels, grey, "rescale-0-1")
        assert whole.dtype == np.float32
        assert (whole.min(), whole.max()) == (0, pytest.approx(1))
        assert np.array_equal(normalise(pixels[:9], grey, "rescale-0-1"), whole[:9])
        flat = np.full((5, 5), 7, dtype=dtype)
        assert not normalise(flat, statistics(flat), "rescale-0-1").any()
