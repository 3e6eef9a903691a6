"""A student that learns probabilities, and who may teach it."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch.nn.functional as nnf
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from ranvier.apps import cli_distil
from ranvier.datasets.collection import read_datasets
from ranvier.datasets.folds import split
from ranvier.datasets.phantom import PhantomSettings, draw
from ranvier.errors import DatasetError, SettingsError
from ranvier.inference import InferenceSettings, classify
from ranvier.reading import from_array
from ranvier.training import distil as distilling
from ranvier.training.augment import cut
from ranvier.training.canvas import canvas
from ranvier.training.checkpoint import Checkpoint, save_checkpoint
from ranvier.training.cross_validation import (
    Dealt,
    fold_folder,
    known_scores,
    save_dealt,
    save_scores,
)
from ranvier.training.distil import cross_validate, distil, export_student, lesson_of
from ranvier.training.ensemble import Fold, out_of_fold
from ranvier.training.export import ExportSettings, product, write_bundle
from ranvier.training.lessons import taught
from ranvier.training.loss import segmentation_loss, soft_loss, training_loss
from ranvier.training.monitor import curves_png
from ranvier.training.network import TorchBackend, field_of, make_network
from ranvier.training.recipe import NetworkSettings, Recipe, ScheduleSettings
from ranvier.training.sampling import PatchSampler
from ranvier.training.teacher import DistilSettings, Lesson, probabilities, unlabelled_images

RECIPE = Recipe(
    network=NetworkSettings(channels=(8, 8)),
    schedule=ScheduleSettings(
        steps=2, batch=2, patch=64, validate_every_steps=2, warmup_steps=1, precision="f32"
    ),
)
TINY = (
    "[network]\nchannels = [8, 8]\n[schedule]\nsteps = 2\nbatch = 2\npatch = 64\nvalidate_every_steps = 2\n"
    "precision = 'f32'\n"
)
QUICK = DistilSettings(inference=InferenceSettings(zoom=1.0, views=1))


@pytest.fixture(scope="module", autouse=True)
def fonts():
    """Let Matplotlib open its fonts, which it keeps open."""
    curves_png([{"step": 1, "loss": 1.0}])


@pytest.fixture(scope="module")
def home(phantom_data, tmp_path_factory):
    """A folder as training each of two folds of three leaves it, with untrained networks."""
    home, data = tmp_path_factory.mktemp("folds"), read_datasets([phantom_data])
    for k in range(2):
        torch.manual_seed(k)
        images = split(data, fold=k, folds=3)
        parts = {"train": images.train, "validation": images.validation}
        about = {
            "step": 1, "seconds": 1.0, "recipe": RECIPE.as_dict(), "scores": {}, "begun_from": None,
            "images": {p: [f"{a.source}/{a.name}" for a in i] for p, i in parts.items()},
        }  # fmt: skip
        network = make_network(RECIPE.network).state_dict()
        save_checkpoint(
            Checkpoint({}, network, {}, about), fold_folder(home, k) / "best.safetensors"
        )
    save_dealt(Dealt((phantom_data,), 3, (0, 1)), home)
    return home


@pytest.fixture(scope="module")
def folds(home, phantom_data):
    data = read_datasets([phantom_data])
    return tuple(
        Fold(k, fold_folder(home, k) / "best.safetensors", split(data, fold=k, folds=3))
        for k in range(2)
    )


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    """A folder with one image without masks."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("blind")
    pixels = draw(PhantomSettings(shape=(96, 128), look="SEM", seed=9)).image.pixels
    Image.fromarray(pixels).save(folder / "a.png")
    return folder


def test_soft_targets_of_zero_and_one_are_the_classes():
    logits, classes = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    soft = nnf.one_hot(classes, 3).movedim(-1, 1).float()
    assert torch.allclose(soft_loss(logits, soft), segmentation_loss(logits, classes), atol=1e-5)
    deep = (logits, torch.randn(2, 3, 4, 4), torch.randn(2, 3, 2, 2))
    assert torch.isfinite(training_loss(deep, soft))


def test_the_soft_loss_is_least_at_the_target():
    target = torch.tensor([0.3, 0.5, 0.2]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    least = soft_loss(target.log(), target)
    for shift in ((0, 0.3, 0), (0, -0.3, 0), (0, 0, 0.3), (0, 0.2, -0.2), (0, 5, 0)):
        moved = target.log() + torch.tensor(shift).reshape(1, 3, 1, 1)
        assert soft_loss(moved, target) > least


def soft_canvas(shape=(40, 56)):
    rng = np.random.default_rng(0)
    soft = (rng.random((2, *shape)) * 127).astype(np.uint8)
    pixels = rng.integers(0, 255, shape).astype(np.uint8)
    return canvas(pixels, np.zeros(shape, np.uint8), rng, soft=soft), soft


@pytest.mark.parametrize("zoom", [0.3, 0.9, 4.0])
def test_probabilities_are_warped_as_a_float_copy_of_the_image_would_be(zoom):
    made, soft = soft_canvas()
    theta = torch.tensor([[[0.8 / zoom, 0.3 / zoom, 0.4], [-0.3 / zoom, 0.8 / zoom, -0.2]]])
    grid = nnf.affine_grid(theta, [1, 1, 32, 32], align_corners=False)
    whole = torch.from_numpy(soft)[None].float() / 255
    expected = nnf.grid_sample(
        whole, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )[0]
    found = made.targets_at(grid)
    assert found.shape == (3, 32, 32)
    assert torch.allclose(found[1:], expected, atol=1e-4)
    assert torch.allclose(found.sum(dim=0), torch.ones(32, 32), atol=1e-5)


def test_a_patch_with_probabilities_is_the_patch_that_it_was(folds):
    made, _ = soft_canvas((96, 96))
    hard = dataclasses.replace(made, soft=None)
    how = {"patch": (64, 64), "foreground": 0.5, "settings": RECIPE.augmentation}
    one, target = cut(made, **how, rng=np.random.default_rng(3))
    other, classes = cut(hard, **how, rng=np.random.default_rng(3))
    assert torch.equal(one, other)
    assert target.shape == (3, 64, 64)
    assert classes.dtype == torch.int64


def test_a_teacher_says_what_users_would_see(phantom):
    torch.manual_seed(0)
    network = make_network(RECIPE.network).eval()
    view = InferenceSettings(zoom=1.0, views=2, max_tile_px=128 * 128)
    planes = probabilities(phantom.image, network, RECIPE, view)
    assert planes.dtype == np.uint8
    rest = 255 - planes.sum(axis=0, dtype=int)
    classes = classify(
        phantom.image, TorchBackend(network), field=field_of(RECIPE.network), settings=view
    )
    likely = np.stack((rest, *planes))
    chosen = np.take_along_axis(likely, classes[None].astype(int), axis=0)[0]
    assert (chosen >= likely.max(axis=0) - 1).all()
    flat = from_array(np.full((40, 40), 7, np.uint8))
    assert not probabilities(flat, network, RECIPE, view).any()


def test_masks_and_probabilities_are_weighed(folds, tmp_path):
    image = folds[0].split.train[0]
    _, classes = image.load()
    soft = np.full((2, *classes.shape), 100, np.uint8)
    np.save(tmp_path / "p.npy", soft)
    mixed = taught(image, tmp_path / "p.npy", 0.25).targets(classes)
    assert set(np.unique(mixed[0][classes == 1])) == {round(0.25 * 255 + 75)}
    assert set(np.unique(mixed[0][classes != 1])) == {75}
    assert np.array_equal(taught(image, tmp_path / "p.npy", 0).targets(classes), soft)
    blind = taught(dataclasses.replace(image, masks=()), tmp_path / "p.npy", 0.25)
    assert np.array_equal(blind.targets(classes), soft)
    assert blind.load()[1].max() == 1  # the first of equals
    np.save(tmp_path / "p.npy", soft[:, 1:])
    with pytest.raises(DatasetError, match="do not fit"):
        blind.targets(classes)


def test_the_paper_s_augmentation_does_not_take_probabilities(folds, tmp_path):
    image = folds[0].split.train[0]
    np.save(tmp_path / "p.npy", np.zeros((2, *image.load()[1].shape), np.uint8))
    recipe = dataclasses.replace(
        RECIPE, augmentation=dataclasses.replace(RECIPE.augmentation, scheme="nnunet")
    )
    with pytest.raises(SettingsError, match="does not warp"):
        PatchSampler((taught(image, tmp_path / "p.npy", 0.5),), recipe, np.random.default_rng(0))


def test_labelled_files_are_no_unlabelled_images(folds, blind, tmp_path):
    known = folds[0].split.train
    copy = tmp_path / "copy.png"
    copy.write_bytes(known[0].image.read_bytes())
    files = [("A", copy), ("A", blind / "a.png"), ("A", blind / "a.png")]
    images, notes = unlabelled_images(files, known)
    assert [(a.source, a.name, a.masks) for a in images] == [("A (unlabelled)", "a.png", ())]
    assert len(notes) == 2
    assert known[0].name in notes[0]


def test_a_student_learns_from_all_and_goes_on(folds, blind, tmp_path):
    images, _ = unlabelled_images([("A", blind / "a.png")], ())
    lesson = Lesson(RECIPE, QUICK, unlabelled=images)
    said = []
    trained = distil(folds, lesson, tmp_path, report=said.append)
    result, learned = trained
    assert result.steps == 2
    assert len(learned.train) == 7
    assert learned.validation == ()
    assert "the teacher looks at 7 images" in said
    said.clear()
    distil(folds, dataclasses.replace(lesson, resume=True), tmp_path, report=said.append)
    assert said[0] == "going on from step 2"
    other = dataclasses.replace(lesson, settings=dataclasses.replace(QUICK, hard_weight=0.1))
    with pytest.raises(SettingsError, match="another teacher"):
        distil(folds, other, tmp_path, report=said.append)
    bundle = export_student(
        trained, lesson, folds, tmp_path / "m", name="pupil", settings=ExportSettings(int8=False)
    )
    told = bundle.about["training"]["distilled_from"]
    assert [t["fold"] for t in told["teachers"]] == [0, 1]
    assert told["unlabelled"] == {"A (unlabelled)": ["a.png"]}
    text = bundle.content("card.md").decode()
    assert "Distilled" in text
    assert "1 (1), 1 unlabelled" in text
    assert "nothing tells how good" in text


def test_a_student_that_is_scored_has_one_teacher(folds, tmp_path, monkeypatch):
    asked = []

    def look(images, checkpoints, lesson, folder, report):
        asked.append(([p.parent.name for p in checkpoints], [a.name for a in images]))
        return ()

    monkeypatch.setattr(distilling, "teach", look)
    monkeypatch.setattr(
        distilling, "_train", lambda *rest, **how: distilling.TrainingResult(tmp_path, {}, 0, 0.0)
    )
    students = cross_validate(folds, Lesson(RECIPE, QUICK), tmp_path, report=lambda text: None)
    assert [teachers for teachers, _ in asked] == [["fold-0"], ["fold-1"]]
    for fold, student, (_, seen) in zip(folds, students, asked, strict=True):
        held = {a.name for a in fold.split.validation}
        assert not held & set(seen)
        assert student.split.validation == fold.split.validation


def test_a_student_may_begin_as_its_teacher(folds, tmp_path, monkeypatch):
    begun = []

    def train(split, recipe, folder, **how):
        begun.append(how["init"])
        return distilling.TrainingResult(folder / "best.safetensors", {}, 0, 0.0)

    monkeypatch.setattr("ranvier.training.distil.train", train)
    for from_teacher in (False, True):
        lesson = Lesson(RECIPE, QUICK, from_teacher=from_teacher)
        place = tmp_path / str(from_teacher)
        cross_validate(folds, lesson, place, report=lambda text: None)
        distil(folds, lesson, place, report=lambda text: None)
    teachers = [fold.checkpoint for fold in folds]
    assert begun == [None, None, None, *teachers, teachers[0]]


def test_a_student_may_begin_with_any_weights_unless_it_is_scored(folds, tmp_path, monkeypatch):
    begun = []

    def train(split, recipe, folder, **how):
        begun.append(how["init"])
        return distilling.TrainingResult(folder / "best.safetensors", {}, 0, 0.0)

    monkeypatch.setattr("ranvier.training.distil.train", train)
    other = folds[1].checkpoint
    lesson = Lesson(RECIPE, QUICK, init=other)
    distil(folds, lesson, tmp_path / "one", report=lambda text: None)
    assert begun == [other]
    assert lesson_of(folds, lesson) != lesson_of(folds, Lesson(RECIPE, QUICK))
    with pytest.raises(SettingsError, match="may know what the folds hold out"):
        cross_validate(folds, lesson, tmp_path / "each", report=lambda text: None)
    assert not (tmp_path / "each").exists()
    with pytest.raises(SettingsError, match="may know what the folds hold out"):
        cross_validate(folds, Lesson(RECIPE, QUICK, teacher=other), tmp_path, report=print)
    with pytest.raises(SettingsError, match="--from-teacher"):
        Lesson(RECIPE, QUICK, init=other, from_teacher=True)


def test_impossible_settings_are_refused():
    for wrong in ({"hard_weight": 1.5}, {"inference": InferenceSettings(zoom=2)}):
        with pytest.raises(SettingsError):
            DistilSettings(**wrong)


def load_held(home, fold):
    """Images that a fold of the deal holds out."""
    folds, _ = cli_distil.teachers(home)
    return [a.name for a in folds[fold].split.validation]


@pytest.mark.slow
def test_a_student_without_scores_gives_those_of_its_teachers(home, tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    command = [
        str(home), "-o", str(tmp_path / "out"), "--recipe", str(tmp_path / "tiny.toml"), "--no-int8",
        "--drop-failing", "--no-calibrate",
    ]  # fmt: skip
    done = CliRunner().invoke(cli_distil.distil, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "those of the teachers" in done.output
    about = json.loads((tmp_path / "out" / "model" / "model.json").read_text())
    folds, _ = cli_distil.teachers(home)
    assert about["training"]["validation"] == out_of_fold(folds)
    assert "student's teachers" in about["how_scored"]
    assert "calibration" not in about["training"]


@pytest.mark.slow
def test_the_command_scores_students_and_then_makes_one(home, blind, tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    out, before = tmp_path / "out", hashlib.sha256((home / "folds.json").read_bytes()).digest()
    command = [
        str(home), "-o", str(out), "--recipe", str(tmp_path / "tiny.toml"), "--no-int8", "--drop-failing",
        "--unlabelled", str(blind),
    ]  # fmt: skip
    runner = CliRunner()
    done = runner.invoke(cli_distil.distil, [*command, "--cross-validate"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    scores = json.loads((out / "cross_validation.json").read_text())["scores"]
    done = runner.invoke(cli_distil.distil, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    about = json.loads((out / "model" / "model.json").read_text())
    assert about["training"]["validation"] == scores
    assert "other students" in about["how_scored"]
    held = {a for name in range(2) for a in load_held(home, name)}
    assert about["training"]["calibration"]["images"] == len(held)
    assert "temperature" in done.output
    assert "Logits are divided by" in (out / "model" / "card.md").read_text()
    assert hashlib.sha256((home / "folds.json").read_bytes()).digest() == before


@pytest.mark.slow
def test_one_network_may_teach_another(home, phantom_data, tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    out, recipe = tmp_path / "out", str(tmp_path / "tiny.toml")
    checkpoint = fold_folder(home, 0) / "best.safetensors"
    runner = CliRunner()

    def run(teacher, place, *more):
        command = [
            str(phantom_data), "--teacher", str(teacher), "-o", str(place), "--recipe", recipe, "--no-int8",
            "--drop-failing", *more,
        ]  # fmt: skip
        return runner.invoke(cli_distil.distil, command, catch_exceptions=False)

    done = run(checkpoint, out, "--from-teacher")
    assert done.exit_code == 0, done.output
    assert "as sure as the teacher on" in done.output
    about = json.loads((out / "model" / "model.json").read_text())
    assert about["training"]["validation"] == {}
    told = about["training"]["distilled_from"]["teachers"]
    assert told == [
        {"model": str(checkpoint), "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest()}
    ]
    images = read_datasets([phantom_data])
    assert about["training"]["calibration"]["images"] == len(images)
    assert sum(map(len, about["training"]["trained_on"].values())) == len(images)
    assert "as sure as its teacher" in (out / "model" / "card.md").read_text()
    # A model teaches, too: its scores are told as its own.
    scored = {"A": {"dice_axon": 0.5, "dice_myelin": 0.5}}
    model = tmp_path / "model"
    split_ = dataclasses.replace(split(images, fold=0, folds=3), validation=())
    made = dataclasses.replace(product(checkpoint, split_), how_scored="Counted by hand.")
    made.summary["validation"] = scored
    settings = ExportSettings(int8=False, drop_failing=True, keep_weights=True)
    write_bundle(made, model, name="old", settings=settings)
    done = run(model, tmp_path / "again", "--no-calibrate")
    assert done.exit_code == 0, done.output
    about = json.loads((tmp_path / "again" / "model" / "model.json").read_text())
    told = about["training"]["distilled_from"]["teachers"]
    assert told[0]["trained_on"] == sorted(f"{a.source}/{a.name}" for a in split_.train)
    assert about["training"]["validation"] == scored
    assert about["how_scored"].endswith("Of the teacher it is said: Counted by hand.")
    done = runner.invoke(
        cli_distil.distil,
        [str(phantom_data), "--teacher", str(model), "-o", str(tmp_path / "x"), "--cross-validate"],
    )
    assert isinstance(done.exception, SettingsError)
    assert "--cross-validate" in str(done.exception)
    assert not (tmp_path / "x").exists()


def test_students_are_not_written_over_teachers_or_other_students(home, folds, tmp_path):
    def check(place, **how):
        cli_distil._check_output(place, folds, **{"cross_validate": False, "resume": False, **how})

    for cross_validated in (False, True):
        for resume in (False, True):
            with pytest.raises(SettingsError, match="written over them"):
                check(home, cross_validate=cross_validated, resume=resume)
    place = tmp_path / "out"
    check(place)
    (place / "fold-1").mkdir(parents=True)
    check(place)
    check(place, cross_validate=True, resume=True)
    with pytest.raises(SettingsError, match="not empty"):
        check(place, cross_validate=True)
    (place / "student").mkdir()
    check(place, resume=True)
    with pytest.raises(SettingsError, match="not empty"):
        check(place)
    (tmp_path / "other" / "thing").mkdir(parents=True)
    with pytest.raises(SettingsError, match="not empty"):
        check(tmp_path / "other", resume=True)


def test_scores_are_of_students_that_were_taught_alike(folds, tmp_path):
    scores = {"A": {"dice_axon": 0.5}}
    lesson = Lesson(RECIPE, QUICK)
    assert known_scores(tmp_path, lesson_of(folds, lesson)) is None
    save_scores(scores, folds, tmp_path, how="", lesson=lesson_of(folds, lesson))
    assert known_scores(tmp_path, lesson_of(folds, lesson)) == scores
    for other in (
        Lesson(RECIPE, dataclasses.replace(QUICK, hard_weight=0.1)),
        Lesson(RECIPE, QUICK, from_teacher=True),
    ):
        assert known_scores(tmp_path, lesson_of(folds, other)) is None
    assert known_scores(tmp_path, lesson_of(folds[:1], lesson)) is None
