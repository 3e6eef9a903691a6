"""Where patches are cut and how they are changed."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ranvier.datasets.collection import read_datasets
from ranvier.training import augment_nnunet
from ranvier.training.augment import cut
from ranvier.training.augment_nnunet import (
    contrasted,
    cut_as_nnunet,
    gamma_kept,
    largest_angle,
    window_shape,
)
from ranvier.training.canvas import canvas
from ranvier.training.recipe import AugmentationSettings, Recipe, SamplingSettings, ScheduleSettings
from ranvier.training.sampling import (
    PatchSampler,
    foreground_shares,
    image_weights,
    source_weights,
)

PLAIN = AugmentationSettings(
    rotate=False, flip=False, zoom=(1, 1), anisotropy=1, invert=0, gamma=(1, 1), contrast=(1, 1),
    brightness=0, blur_share=0, noise_share=0, bias_field=0,
)  # fmt: skip
NNUNET = AugmentationSettings(scheme="nnunet")


class Chances:
    """A generator whose coins fall as told and whose other numbers are a real one's."""

    def __init__(self, *coins: float, rest: float = 0.999, uniform: float | None = None):
        self._real, self._coins, self._rest = np.random.default_rng(0), list(coins), rest
        self._uniform = uniform

    def random(self) -> float:
        return self._coins.pop(0) if self._coins else self._rest

    def uniform(self, low: float, high: float) -> float:
        return self._real.uniform(low, high) if self._uniform is None else self._uniform

    def __getattr__(self, name):
        return getattr(self._real, name)


@pytest.fixture(scope="module")
def source(phantom_data):
    micrograph, classes = read_datasets([phantom_data])[0].load()
    return canvas(micrograph.pixels, classes, np.random.default_rng(0), by_class=True), classes


def with_classes(whole, classes):
    return dataclasses.replace(whole, classes=torch.as_tensor(classes)[None, None].float())


def test_sources_get_their_shares(source):
    whole, _ = source
    few, many = torch.zeros(10, 10), torch.zeros(20, 20)
    few[0, :4], many[:6, :6] = 1, 2
    sources = [[with_classes(whole, c)] for c in (few, many)]
    for sampling, images, shares in (
        ("balanced", "area-root", [1 / 2, 1 / 2]),
        ("root", "area-root", [1 / 4, 3 / 4]),
        ("proportional", "area-root", [1 / 5, 4 / 5]),
        ("proportional", "uniform", [1 / 2, 1 / 2]),
        ("balanced", "uniform", [1 / 2, 1 / 2]),
        ("subjects", "area-root", [3 / 5, 2 / 5]),
    ):
        settings = SamplingSettings(sources=sampling, images=images)
        found = source_weights(sources, settings, subjects=[3, 2])
        assert found == pytest.approx(np.array(shares))
        alone = [[with_classes(whole, few * 0)]]
        assert source_weights(alone, settings, subjects=[1]) == [1.0]


def test_sources_without_masks_get_the_mean_of_the_others(source):
    whole, _ = source
    sources = [[with_classes(whole, torch.zeros(9, 9))]] * 3
    settings = SamplingSettings(sources="subjects")
    for subjects, shares in (([3, 0, 1], [1 / 2, 1 / 3, 1 / 6]), ([0, 0, 0], [1 / 3] * 3)):
        assert source_weights(sources, settings, subjects=subjects) == pytest.approx(shares)


def test_images_get_their_shares(source):
    whole, _ = source
    pair = [with_classes(whole, torch.zeros(n, n)) for n in (10, 30)]
    assert image_weights(pair, "area-root") == pytest.approx([1 / 4, 3 / 4])
    assert image_weights(pair, "uniform") == pytest.approx([1 / 2, 1 / 2])


def test_plain_concatenation_shows_each_image_as_often(source):
    whole, _ = source
    sources = [[with_classes(whole, torch.zeros(n, n)) for n in ns] for ns in ([9], [20, 5, 7])]
    settings = SamplingSettings(sources="proportional", images="uniform")
    shares = source_weights(sources, settings, subjects=[1, 3])
    each = [
        w * v for w, s in zip(shares, sources, strict=True) for v in image_weights(s, "uniform")
    ]
    assert each == pytest.approx([1 / 4] * 4)


def test_the_last_third_of_a_batch_is_foreground():
    by_chance = SamplingSettings(foreground=0.33)
    by_class = dataclasses.replace(by_chance, foreground_by_class=True)
    for batch, forced in ((13, 4), (2, 1), (1, 0), (12, 4)):
        assert foreground_shares(by_chance, batch) == (0.33,) * batch
        assert foreground_shares(by_class, batch) == (0.0,) * (batch - forced) + (1.0,) * forced


def test_the_class_is_drawn_before_the_pixel():
    classes = np.zeros((40, 50), dtype=np.uint8)
    classes[:, :40], classes[7, 45] = 1, 2
    pixels = np.random.default_rng(0).integers(0, 255, classes.shape).astype(np.uint8)
    rng = np.random.default_rng(1)
    made = canvas(pixels, classes, rng, by_class=True)
    places = [made.foreground_place(1.0, rng, by_class=True) for _ in range(400)]
    assert 140 < places.count((7, 45)) < 260
    by_pixel = [made.foreground_place(1.0, rng, by_class=False) for _ in range(400)]
    assert by_pixel.count((7, 45)) < 10
    assert all(classes[place] for place in places + by_pixel)
    assert made.foreground_place(0.0, rng, by_class=True) is None
    empty = canvas(pixels, classes * 0, rng, by_class=True)
    assert empty.foreground_place(1.0, rng, by_class=True) is None
    axons = canvas(pixels, classes // 2 * 2, rng, by_class=True)
    assert {axons.foreground_place(1.0, rng, by_class=True) for _ in range(9)} == {(7, 45)}


def test_a_sampler_draws_oblong_patches(phantom_data):
    recipe = Recipe(
        schedule=ScheduleSettings(batch=2, patch=(64, 32)),
        sampling=SamplingSettings(foreground_by_class=True, images="uniform"),
    )
    images = read_datasets([phantom_data])[:2]
    first, again = (
        PatchSampler(images, recipe, np.random.default_rng(3)).batch() for _ in range(2)
    )
    assert first[0].shape == (2, 1, 64, 32)
    assert first[1].shape == (2, 64, 32)
    assert torch.equal(first[0], again[0])


def test_a_patch_without_randomisation_is_a_crop(source):
    whole, classes = source
    for patch in ((64, 64), (48, 96)):
        rng = np.random.default_rng(1)
        grey, labels = cut(whole, patch=patch, foreground=0, settings=PLAIN, rng=rng)
        r, c = the_place(classes, labels)
        crop = whole.levels[0][0, 0, r : r + patch[0], c : c + patch[1]].numpy()
        assert np.corrcoef(crop.ravel(), grey[0].numpy().ravel())[0, 1] > 0.99


def the_place(classes, labels):
    """Where the one crop lies that has these labels."""
    found = [
        (r, c)
        for r in range(classes.shape[0] - labels.shape[0] + 1)
        for c in range(classes.shape[1] - labels.shape[1] + 1)
        if np.array_equal(classes[r : r + labels.shape[0], c : c + labels.shape[1]], labels)
    ]
    assert len(found) == 1
    return found[0]


def test_polarity_turns_the_grey_and_not_the_labels(source):
    whole, _ = source
    upright, inverted = (
        cut(
            whole, patch=(64, 64), foreground=0, rng=np.random.default_rng(1),
            settings=dataclasses.replace(PLAIN, invert=p),
        )
        for p in (0.0, 1.0)
    )  # fmt: skip
    assert torch.equal(upright[1], inverted[1])
    both = torch.stack((upright[0].ravel(), inverted[0].ravel()))
    assert float(torch.corrcoef(both)[0, 1]) < -0.99


@pytest.mark.parametrize("settings", [AugmentationSettings(), NNUNET], ids=lambda s: s.scheme)
def test_any_patch_is_finite_in_scale_and_repeatable(source, settings):
    for seed in range(20):
        (grey, labels), again = (
            cut(
                source[0],
                patch=(64, 96),
                foreground=0.5,
                by_class=seed % 2 == 0,
                settings=settings,
                rng=np.random.default_rng(seed),
            )
            for _ in range(2)
        )
        assert torch.equal(grey, again[0])
        assert torch.equal(labels, again[1])
        assert grey.shape == (1, 64, 96)
        assert torch.isfinite(grey).all()
        assert float(grey.abs().mean()) < 4
        assert set(labels.unique().tolist()) <= {0, 1, 2}


def test_an_oblong_patch_is_rotated_little_and_its_window_is_nnunets():
    assert largest_angle((384, 640)) == pytest.approx(math.radians(15))
    assert largest_angle((400, 600)) == largest_angle((256, 256)) == pytest.approx(math.pi)
    assert window_shape((384, 640)) == (631, 752)
    assert window_shape((512, 512)) == (602, 602)


def cut_by(source, *coins, uniform=None, **more):
    """An nnU-Net patch with told coins: the first is the foreground's, then come rotation and scaling."""
    chances = Chances(0.999, *coins, uniform=uniform, **more)
    return cut_as_nnunet(source, patch=(48, 80), foreground=0.5, by_class=True, rng=chances)


def test_without_any_chance_nnunets_patch_is_a_crop(source):
    whole, classes = source
    grey, labels = cut_by(whole)
    padded = np.pad(classes, 100)
    r, c = the_place(padded, labels)
    wide = np.pad(whole.levels[0][0, 0].numpy(), 100)
    assert np.array_equal(wide[r : r + 48, c : c + 80], grey[0].numpy())


def test_outside_the_image_there_is_nothing():
    pixels = np.full((30, 30), 200, dtype=np.uint8)
    pixels[0, 0] = 0
    small = canvas(pixels, np.ones((30, 30), np.uint8), np.random.default_rng(0), by_class=True)
    for coins in ((), (0.0, 0.0)):
        grey, labels = cut_by(small, *coins, uniform=1.0)
        assert (grey == 0).any()
        assert not labels[grey[0] == 0].any()
        assert 0 < int((labels == 1).sum()) <= 900


def test_scaling_above_one_shrinks_what_is_seen(source):
    whole, _ = source
    bright = dataclasses.replace(
        whole, levels=(torch.ones(1, 1, 400, 400),), classes=torch.zeros(1, 1, 400, 400)
    )
    bright.classes[..., 190:210, 190:210] = 2
    bright = dataclasses.replace(bright, by_class=(np.array([[200, 200]], dtype=np.int32),))
    areas = [
        int((cut_as_nnunet(
            bright, patch=(64, 64), foreground=1, by_class=True,
            rng=Chances(0.0, 0.999, 0.0, uniform=scale),
        )[1] == 2).sum())
        for scale in (0.7, 1.0, 1.4)
    ]  # fmt: skip
    assert areas == pytest.approx([400 / 0.49, 400, 400 / 1.96], rel=0.12)


@pytest.mark.parametrize("axis", [0, 1])
def test_rotation_turns_in_pixels_and_not_in_shares_of_the_window(source, axis):
    """A bar turns by the angle itself in an oblong patch, whichever way it lies."""
    whole, _ = source
    away = np.abs(np.mgrid[:300, :300][axis] - 150)
    bar = torch.as_tensor((away < 4).astype(np.float32))[None, None]
    place = (np.array([[150, 150]], dtype=np.int32),)
    made = dataclasses.replace(whole, levels=(bar,), classes=bar, by_class=place)
    chances = Chances(0.0, 0.0, 0.999, uniform=0.25)
    _, labels = cut_as_nnunet(made, patch=(64, 128), foreground=1, by_class=True, rng=chances)
    seen = np.argwhere(labels.numpy() == 1)
    slope = np.polyfit(seen[:, 1 - axis], seen[:, axis], 1)[0]
    assert abs(slope) == pytest.approx(math.tan(0.25), rel=0.06)


def test_mirroring_flips_grey_and_classes_alike(source):
    whole, _ = source
    still = (0.999,) * 9
    plain, flipped = (cut_by(whole, *still, *axes) for axes in ((0.9, 0.9), (0.0, 0.0)))
    assert torch.equal(flipped[0], plain[0].flip(1, 2))
    assert torch.equal(flipped[1], plain[1].flip(0, 1))


def test_gamma_keeps_mean_and_spread(source):
    grey = source[0].levels[0]
    for gamma in (0.7, 1.0, 1.5):
        bent = gamma_kept(grey, gamma)
        assert float(bent.mean()) == pytest.approx(float(grey.mean()), abs=1e-4)
        assert float(bent.std()) == pytest.approx(float(grey.std()), rel=1e-4)
        assert torch.allclose(bent, grey, atol=1e-4) == (gamma == 1)
        assert torch.isfinite(gamma_kept(torch.ones(1, 1, 8, 8), gamma)).all()


def test_contrast_stays_in_the_range_before(source):
    grey = source[0].levels[0]
    more, less = contrasted(grey, 1.25), contrasted(grey, 0.75)
    assert float(more.std()) > float(grey.std()) > float(less.std())
    assert float(more.min()) == float(grey.min())
    assert float(more.max()) == float(grey.max())


def test_each_change_of_look_happens_as_often_as_nnunet_says(monkeypatch):
    """Counted over many patches, each by a trace that only it leaves."""
    calls = dict.fromkeys(("_blurred", "contrasted", "_coarse", "gamma_kept"), 0)
    for name in calls:

        def counted(grey, *rest, name=name):
            calls[name] += 1
            return grey

        monkeypatch.setattr(augment_nnunet, name, counted)
    rng, grey = np.random.default_rng(0), torch.ones(1, 1, 2, 2)
    changed = {"noise": 0, "brightness": 0}
    runs = 4000
    for _ in range(runs):
        out = augment_nnunet._relooked(grey, rng)
        changed["noise"] += bool(out.std() > 0)
        changed["brightness"] += bool(out.std() == 0 and out[0, 0, 0, 0] != 1)
    shares = {k: v / runs for k, v in (calls | changed).items()}
    assert shares == pytest.approx(
        {"_blurred": 0.1, "contrasted": 0.15, "_coarse": 0.125, "gamma_kept": 0.4, "noise": 0.1,
         "brightness": 0.15 * 0.9},
        abs=0.025,
    )  # fmt: skip
