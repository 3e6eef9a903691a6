"""Print the tables of docs/accuracy.md and draw its pictures: python docs/make_accuracy.py."""

from __future__ import annotations

import csv
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.special import ellipe
from skimage.measure import regionprops_table
from skimage.segmentation import watershed

from ranvier.calibration import PixelSize
from ranvier.datasets.phantom import Look, PhantomSettings, draw
from ranvier.fascicles import Fascicles, measure_fascicles
from ranvier.instances import InstanceSettings, separate
from ranvier.masks import classes_from_mask, classes_from_masks
from ranvier.measures import MEASURES
from ranvier.micrograph import Array, Fibres, Instances
from ranvier.morphometrics import AxonShape, MeasureSettings, measure
from ranvier.summary import summarise

DOCS = Path(__file__).parent
EVERY_AXON = InstanceSettings(min_axon_area=1)
MODELS: tuple[AxonShape, ...] = ("circle", "ellipse")
Table = dict[str, Array]


def reference() -> Path | None:
    """Folder of outside numbers, or None where it is absent."""
    data = os.environ.get("RANVIER_DATA", Path(__file__).parents[2] / "shared" / "data")
    folder = Path(data).parent / "reference" / "morphometrics"
    return folder if folder.is_dir() else None


def show(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table in Markdown."""
    print(f"\n### {title}\n| " + " | ".join(header) + " |\n|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


# 1. Drawn shapes whose measures are known in closed form.

DIAMETERS = (4, 6, 8, 12, 16, 24, 32, 64, 128)
G_RATIOS = (0.4, 0.6, 0.8)
PERCENT = ("axon_area", "axon_perimeter", "polygon_perimeter")


def drawn(
    rng: np.random.Generator, diameter: float, *, g: float, ratio: float = 1.0, count: int = 24
) -> NDArray[np.uint8]:
    """Fibres of one size at random sub-pixel places and angles: classes, a pixel's centre decides."""
    side = math.ceil(diameter * ratio / g) + 8
    canvas = np.zeros((side * math.ceil(count / 6), side * 6), np.uint8)
    row, col = np.indices((side, side)) - side / 2
    for i in range(count):
        (down, right), angle = rng.random(2), rng.uniform(0, np.pi)
        turned = ((col - right) + 1j * (row - down)) * np.exp(-1j * angle)
        out = np.hypot(turned.real / ratio, turned.imag) * 2 / diameter
        top, left = (side * k for k in divmod(i, 6))
        canvas[top : top + side, left : left + side] = (out <= 1 / g).astype(np.uint8) + (out <= 1)
    return canvas


def truth_of(diameter: float, g: float, ratio: float = 1.0) -> dict[str, float]:
    """Measures of an ellipse of this minor axis and ratio inside the same ellipse, 1 / g as large."""
    area = np.pi / 4 * ratio * diameter**2
    perimeter = 2 * ratio * diameter * ellipe(1 - 1 / ratio**2)
    turn = np.exp(2j * np.pi * np.arange(8_000) / 8_000)
    inner = np.column_stack((turn.real * ratio, turn.imag)) * diameter / 2
    length = np.abs(turn.imag * ratio + 1j * turn.real)
    away, _ = cKDTree(inner).query(inner / g)
    thickness = {"circle": math.sqrt(ratio) * diameter, "ellipse": diameter}
    known = {
        "axon_area": area,
        "axon_perimeter": perimeter,
        "polygon_perimeter": perimeter,
        "axon_feret_max": ratio * diameter,
        "axon_feret_min": diameter,
        "axon_circularity": 4 * np.pi * area / perimeter**2,
        "sheath_thickness_mean": float(np.average(away, weights=length)),
    }
    for model, across in thickness.items():
        known |= {
            f"{model}: axon_diameter": across,
            f"{model}: myelin_thickness": across * (1 / g - 1) / 2,
            f"{model}: g_ratio": g,
        }
        if ratio == 1 or model == "ellipse":  # a circle through an ellipse has no truth
            known |= {f"{model}: axon_diameter_fitted": across, f"{model}: g_ratio_fitted": g}
    return known


def errors(
    rng: np.random.Generator, diameter: float, *, g: float, ratio: float = 1.0, count: int = 24
) -> Table:
    """What is measured less what is true: in px, % (areas and perimeters) or plain, of every fibre."""
    found = separate(drawn(rng, diameter, g=g, ratio=ratio, count=count), settings=EVERY_AXON)
    tables = {m: measure(found, settings=MeasureSettings(axon_shape=m)).table for m in MODELS}
    by_polygon = regionprops_table(found.axons, properties=("perimeter",))["perimeter"]
    off = {}
    for name, true in truth_of(diameter, g, ratio).items():
        model, _, plain = name.rpartition(": ")
        value = by_polygon
        if name != "polygon_perimeter":
            value = _column(tables["ellipse" if model == "ellipse" else "circle"], plain)
        off[name] = (value - true) * (100 / true if name in PERCENT else 1)
    return off


CUT = (
    "axon_diameter",
    "axon_diameter_fitted",
    "myelin_thickness",
    "sheath_thickness_mean",
    "g_ratio",
    "g_ratio_fitted",
    "g_ratio_by_thickness",
)
"""Columns that are shown for fibres that the border cuts."""


def cut_errors(
    rng: np.random.Generator, diameter: float, keep: float, *, g: float = 0.6, count: int = 24
) -> Table:
    """Errors of rings of which the image holds this share of their width."""
    tables = []
    for _ in range(count):
        whole = drawn(rng, diameter, g=g, count=1)
        right = round((math.ceil(diameter / g) + 9 + (2 * keep - 1) * diameter / g) / 2)
        tables.append(measure(separate(whole[:, :right].copy(), settings=EVERY_AXON)))
    known = truth_of(diameter, g)
    known = {name.removeprefix("circle: "): value for name, value in known.items()}
    known["g_ratio_by_thickness"] = g
    return {n: np.concatenate([_column(t, n) for t in tables]) - known[n] for n in CUT}


def print_cut() -> None:
    """Table of rings that the border cuts."""
    rng = np.random.default_rng(3)
    rows = []
    for d in (16, 32, 64):
        for keep in (0.9, 0.75, 0.6):
            off = cut_errors(rng, d, keep)
            rows.append([d, f"{100 * keep:.0f} %", *(_spread(off[n], 3) for n in CUT)])
    show("Rings that the border cuts, g 0.6", ["px", "of its width inside", *CUT], rows)


def _column(table: Fibres | Mapping[str, Array], name: str) -> Array:
    """A column, whatever its unit."""
    values = table.table if isinstance(table, Fibres) else table
    entry = next(m for m in MEASURES if m.name == name)
    key = entry.column(None)
    return np.asarray(values[key if key in values else entry.column(SIZE)], dtype=np.float64)


def _spread(values: Array, digits: int) -> str:
    """Mean and standard deviation of what is not empty; a dash where all is."""
    values = values[np.isfinite(values)]
    if values.size < 2:
        return "-"
    return f"{np.mean(values) + 0.0:+.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


Spec = dict[str, tuple[str, int]]
OF_DISCS: Spec = {
    "axon_area, %": ("axon_area", 2),
    "axon_diameter, px": ("circle: axon_diameter", 3),
    "axon_diameter_fitted, px": ("circle: axon_diameter_fitted", 3),
    "axon_diameter (ellipse), px": ("ellipse: axon_diameter", 3),
    "axon_perimeter, %": ("axon_perimeter", 2),
    "polygon perimeter, %": ("polygon_perimeter", 2),
    "axon_feret_max, px": ("axon_feret_max", 2),
    "axon_feret_min, px": ("axon_feret_min", 2),
    "axon_circularity": ("axon_circularity", 3),
}
OF_RINGS: Spec = {
    "myelin_thickness, px": ("circle: myelin_thickness", 3),
    "myelin_thickness (ellipse), px": ("ellipse: myelin_thickness", 3),
    "sheath_thickness_mean, px": ("sheath_thickness_mean", 3),
    "g_ratio (ellipse)": ("ellipse: g_ratio", 4),
    "g_ratio_fitted": ("circle: g_ratio_fitted", 4),
}
OF_ELLIPSES: Spec = {
    "axon_area, %": ("axon_area", 2),
    "axon_diameter (ellipse), px": ("ellipse: axon_diameter", 3),
    "axon_perimeter, %": ("axon_perimeter", 2),
    "axon_feret_max, px": ("axon_feret_max", 2),
    "axon_feret_min, px": ("axon_feret_min", 2),
    "axon_circularity": ("axon_circularity", 3),
    "myelin_thickness (ellipse), px": ("ellipse: myelin_thickness", 3),
    "sheath_thickness_mean, px": ("sheath_thickness_mean", 3),
    "g_ratio": ("circle: g_ratio", 4),
    "g_ratio (ellipse)": ("ellipse: g_ratio", 4),
}


def print_shapes() -> None:
    """Tables of discs and rings, and of ellipses."""
    rng = np.random.default_rng(1)
    axons, sheaths, slanted = [], [], []
    for d in DIAMETERS:
        rings = {g: errors(rng, d, g=g) for g in G_RATIOS}
        every = {name: np.concatenate([r[name] for r in rings.values()]) for name in rings[0.4]}
        of_g = [_spread(rings[g]["circle: g_ratio"], 4) for g in G_RATIOS]
        axons.append([d, *_cells(every, OF_DISCS)])
        sheaths.append([d, *of_g, *_cells(every, OF_RINGS)])
        slanted.append([d, *_cells(errors(rng, d, g=0.6, ratio=2.0), OF_ELLIPSES)])
    by_g = [f"g_ratio, {g}" for g in G_RATIOS]
    show("Axons: discs", ["diameter, px", *OF_DISCS], axons)
    show("Sheaths: concentric rings", ["axon, px", *by_g, *OF_RINGS], sheaths)
    show("Ellipses, axis ratio 2, g 0.6", ["minor axis, px", *OF_ELLIPSES], slanted)


def _cells(off: Table, spec: Spec) -> list[str]:
    return [_spread(off[name], digits) for name, digits in spec.values()]


# 2. Fibres that touch, and whose myelin is whose.

SIZE = PixelSize(0.07, "option")
SEEDS = range(5)
LOOKS: tuple[Look, ...] = ("TEM", "SEM", "BF", "CARS")
Rule = Callable[[NDArray[np.uint8]], Instances]


def ours(classes: NDArray[np.uint8]) -> Instances:
    """The rule of the program."""
    return separate(classes, settings=EVERY_AXON)


def half_way(classes: NDArray[np.uint8]) -> Instances:
    """Myelin goes to the nearest axon that it is connected to."""
    axons = ours(classes).axons
    away = ndimage.distance_transform_edt(axons == 0)
    return Instances(axons, watershed(away, axons, mask=classes > 0), int(axons.max()))


def flat(classes: NDArray[np.uint8]) -> Instances:
    """A flood from the axons over a flat plateau."""
    axons = ours(classes).axons
    plateau = np.zeros(axons.shape)
    return Instances(axons, watershed(plateau, axons, mask=classes > 0), int(axons.max()))


RULES: dict[str, Rule] = {"ours": ours, "half-way": half_way, "flat flood": flat}


def compared(classes: Array, axons: Array, fibres: Array) -> dict[str, Array]:
    """Fibres that touch others, by rule; float64, shape (fibres, 4).

    Relative error of g, pixels of its myelin that went elsewhere, all pixels of its myelin, and 1
    where the border cuts the fibre.
    """
    ids = np.unique(axons[axons > 0])  # fibres without an axon in the image fall out
    new = np.zeros(int(fibres.max()) + 1, dtype=np.int32)
    new[ids] = np.arange(1, ids.size + 1)
    true = Instances(new[axons], new[fibres], ids.size)
    found = ours(classes)
    pieces = np.unique(np.stack((true.axons, found.axons))[:, found.axons > 0], axis=1)
    label = np.zeros(ids.size + 1, dtype=np.int64)
    label[pieces[0]] = pieces[1]
    whole = np.flatnonzero(np.bincount(pieces[0]) == 1)  # the border cuts two axons into two
    whole = whole[_column(measure(true), "contact_share")[whole - 1] > 0.02]
    cut = _column(measure(found), "touches_border")[label[whole] - 1]
    owner = np.zeros(found.count + 1, dtype=np.int64)
    owner[pieces[1]] = pieces[0]

    def pixels(where: Array, labels: Array = true.fibres) -> Array:
        return np.bincount(labels[where], minlength=ids.size + 1)[whole]

    area, myelin = pixels(true.fibres > 0), pixels(true.axons == 0)
    result = {}
    for name, rule in RULES.items():
        mine = owner[rule(classes).fibres]
        error = np.sqrt(area / pixels(mine > 0, mine)) - 1
        wrong = pixels((mine != true.fibres) & (true.axons == 0))
        result[name] = np.column_stack((error, wrong, myelin, cut))
    return result


def phantoms(
    seeds: Iterable[int], looks: Iterable[Look], shape: tuple[int, int] = (1000, 1000)
) -> dict[str, Array]:
    """:func:`compared` for drawn micrographs, put together."""
    parts = []
    for look in looks:
        for seed in seeds:
            p = draw(PhantomSettings.typical(look, shape=shape, seed=seed))
            parts.append(compared(p.classes, p.axons, p.fibres))
    return _together(parts)


def _together(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {rule: np.concatenate([part[rule] for part in parts]) for rule in RULES}


def pair(
    one: tuple[float, float], two: tuple[float, float], *, overlap: float, shift: complex = 0
) -> tuple[Array, Array, Array]:
    """Two discs (radii of axon and fibre) pressed together, parted along the chord of their crossings.

    ``shift`` moves each axon within its fibre, in shares of its sheath's thickness.
    """
    (a, r), (b, s) = one, two
    rows, cols = math.ceil(2 * max(r, s)) + 9, math.ceil(2 * (r + s) - overlap) + 9
    col, row = np.meshgrid(np.arange(cols) - r - 4.3, np.arange(rows) - rows / 2)
    point, distance = col + 1j * row, r + s - overlap
    first, second = abs(point) ** 2 - r**2, abs(point - distance) ** 2 - s**2
    fibres = np.where(np.minimum(first, second) > 0, 0, np.where(first <= second, 1, 2))
    axons = np.zeros_like(fibres)
    axons[abs(point - shift * (r - a)) <= a] = 1
    axons[abs(point - distance - shift.conjugate() * (s - b)) <= b] = 2
    axons[axons != fibres] = 0
    return (fibres > 0).astype(np.uint8) + (axons > 0), axons, fibres


def pairs(off_centre: float, count: int = 200) -> dict[str, Array]:
    """:func:`compared` for pairs of discs of random sizes whose axons lie off centre in a random direction."""
    rng = np.random.default_rng(2)
    parts = []
    for _ in range(count):
        outer, g = rng.uniform(15, 60, 2), rng.uniform(0.5, 0.8, 2)
        sheath = (outer * (1 - g)).min() * (1 - off_centre)
        classes, axons, fibres = pair(
            (outer[0] * g[0], outer[0]),
            (outer[1] * g[1], outer[1]),
            overlap=rng.uniform(0.3, 0.9) * sheath,
            shift=off_centre * np.exp(1j * rng.uniform(0, 2 * np.pi)),
        )
        parts.append(compared(classes, axons, fibres))
    return _together(parts)


THICK_AND_THIN = ((50.0, 80.0), (30.0, 40.0))


def print_contacts() -> None:
    """Tables of fibres that touch."""
    drawn_ones = {look: phantoms(SEEDS, [look]) for look in LOOKS}
    rows = [_contact_row(f"phantom, {look}", found, 0) for look, found in drawn_ones.items()]
    every = _together(list(drawn_ones.values()))
    rows.append(_contact_row("phantom, all looks", every, 0))
    rows.append(_contact_row("phantom, cut by the border", every, 1))
    for off in (0.0, 0.2, 0.4, 0.6):
        rows.append(_contact_row(f"pairs, off centre {off}", pairs(off), 0))
    title = "Touching fibres: rms error of g, % / largest, % / misplaced share of their myelin, %"
    show(title, ["set", "fibres", *RULES], rows)
    classes, axons, fibres = pair(*THICK_AND_THIN, overlap=5)
    found_g = []
    for name, rule in {"drawn": lambda _: Instances(axons, fibres, 2), **RULES}.items():
        found_g.append([name, *(f"{g:.4f}" for g in _column(measure(rule(classes)), "g_ratio"))])
    show(
        "Axon radius 50 in 80 (g 0.625), pressed 5 px into 30 in 40 (0.75)",
        ["rule", "thick", "thin"],
        found_g,
    )


def _contact_row(name: str, found: dict[str, Array], cut: int) -> list[object]:
    cells: list[object] = [name, int(np.count_nonzero(found["ours"][:, 3] == cut))]
    for rows in found.values():
        error, wrong, myelin, _ = rows[rows[:, 3] == cut].T
        rms, most = 100 * np.sqrt(np.mean(error**2)), 100 * np.abs(error).max()
        cells.append(f"{rms:.2f} / {most:.1f} / {100 * wrong.sum() / myelin.sum():.2f}")
    return cells


# 3. Real masks, beside another tool's tables.


class Demo:
    """Masks of one micrograph, our tables, and those of AxonDeepSeg in the same order."""

    def __init__(self, folder: Path) -> None:
        axon, myelin = (_pixels(folder / f"image_seg-{k}.png") for k in ("axon", "myelin"))
        self.classes = classes_from_masks(axon, myelin)
        self.found = separate(self.classes, settings=EVERY_AXON, pixel_size=SIZE)
        self.theirs = {m: read_csv(folder / f"{m}_ads550.csv") for m in MODELS}
        self.aggregate = json.loads((folder / "aggregate_ads550.json").read_text())
        self.fibres = {
            m: measure(self.found, pixel_size=SIZE, settings=MeasureSettings(axon_shape=m))
            for m in MODELS
        }
        self.alone = _column(self.fibres["circle"], "contact_share") == 0

    def ours(self, model: AxonShape, name: str) -> Array:
        """One of our columns, in the order of our ids, which is that of their rows."""
        return _column(self.fibres[model], name)

    def their_fibres(self) -> Array:
        """The other tool's fibres, which it does not write: made again, and checked against its areas.

        They are a watershed from the pixel of each axon's centroid on minus the depth within axons; in
        myelin, where that is 0, it is a flood.
        """
        seeds = np.zeros(self.classes.shape, dtype=np.int32)
        place = [self.ours("circle", f"centroid_{k}").astype(int) for k in ("row", "col")]
        seeds[place[0], place[1]] = np.arange(1, self.found.count + 1)
        depth = ndimage.distance_transform_edt(self.classes == 2)
        return np.asarray(watershed(-depth, seeds, mask=self.classes > 0))


def _pixels(path: Path) -> Array:
    with Image.open(path) as image:
        return np.asarray(image)


def read_csv(path: Path) -> Table:
    """Columns of a table: numbers; True and False are 1 and 0, an empty cell is NaN."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    words = {"True": 1.0, "False": 0.0, "": math.nan}
    return {
        name: np.array([words[r[name]] if r[name] in words else float(r[name]) for r in rows])
        for name in rows[0]
        if not name.startswith("true_center")
    }


def difference(demo: Demo, model: AxonShape, name: str) -> Array:
    """Relative difference of a column, by fibre; in px for places, |sin| for angles; NaN becomes infinite."""
    theirs = demo.theirs[model][next(m.axondeepseg or "" for m in MEASURES if m.name == name)]
    mine = demo.ours(model, name)
    if name.endswith("orientation_rad"):
        off = np.abs(np.sin(mine - theirs))
    elif name.startswith(("bbox", "touches", "centroid")):
        off = np.abs(mine - theirs)
    else:
        off = np.abs(mine - theirs) / np.maximum(np.abs(theirs), 1e-6)
    return np.where(np.isnan(off), np.inf, off)


def reasons(demo: Demo) -> dict[str, NDArray[np.bool_]]:
    """Why a fibre differs: one array of flags per reason; what no reason explains is in ``left over``."""
    mine, theirs, tissue = demo.found.fibres, demo.their_fibres(), demo.classes > 0
    count = demo.found.count

    def holds(labels: Array, where: Array) -> NDArray[np.bool_]:
        return np.bincount(labels[where], minlength=count + 1)[1:] > 0

    shared = (mine != theirs) & (mine > 0) & (theirs > 0)
    why = {
        "shared": holds(mine, shared) | holds(theirs, shared),
        "filled": holds(mine, (mine > 0) & ~tissue),
        "corner": holds(mine, (mine > 0) & (theirs == 0) & tissue),
        "lost": holds(theirs, (theirs > 0) & (mine == 0)),
        "line": difference(demo, "ellipse", "axon_diameter") > 1e-9,
        "no direction": np.isnan(demo.ours("circle", "axon_orientation_rad")),
        "perimeter": difference(demo, "circle", "axon_perimeter") > 1e-9,
    }
    differs = np.zeros(count, dtype=bool)
    for model in MODELS:
        for entry in MEASURES:
            if entry.axondeepseg and not entry.name.endswith("perimeter"):
                differs |= difference(demo, model, entry.name) > 1e-9
    explained = np.any([flag for name, flag in why.items() if name != "perimeter"], axis=0)
    why["left over"] = (differs & ~explained) | ~_same_formulae(demo)
    return why


def _same_formulae(demo: Demo) -> NDArray[np.bool_]:
    """Fibres that an independent library measures as the tool does on its labels, and as we do on ours."""
    names = ("area", "eccentricity", "perimeter", "perimeter_crofton")
    same = np.ones(demo.found.count, dtype=bool)
    theirs = demo.theirs["circle"]
    for labels, area, round_, length in (
        (demo.their_fibres(), "axonmyelin_area (um^2)", "fiber_eccentricity", "axonmyelin"),
        (demo.found.axons, "axon_area (um^2)", "eccentricity", "axon"),
    ):
        props = regionprops_table(labels, properties=names)
        same &= np.isclose(props["area"] * SIZE.um**2, theirs[area], rtol=1e-9)
        same &= np.isclose(props["eccentricity"], theirs[round_], rtol=1e-9, atol=1e-9)
        of_tool = theirs[f"{length}_perimeter (um)"]
        same &= np.isclose(props["perimeter"] * SIZE.um, of_tool, rtol=1e-9)
    for labels, kind in ((demo.found.fibres, "fibre"), (demo.found.axons, "axon")):
        props = regionprops_table(labels, properties=names)
        same &= np.isclose(props["area"] * SIZE.um**2, demo.ours("circle", f"{kind}_area"))
        mine = demo.ours("circle", f"{kind}_eccentricity")
        same &= np.isclose(props["eccentricity"], mine, rtol=1e-9, atol=1e-7)
        mine = demo.ours("circle", f"{kind}_perimeter")
        same &= np.isclose(props["perimeter_crofton"] * SIZE.um, mine, rtol=1e-9)
    return same


def worst(demo: Demo, count: int = 8) -> NDArray[np.int64]:
    """Positions of the fibres whose g differs most."""
    off = np.abs(demo.ours("circle", "g_ratio") - demo.theirs["circle"]["gratio"])
    return np.argsort(-off)[:count]


def free_thickness(demo: Demo) -> Array:
    """Thickness of each sheath where it borders on background: median over its free border, in px."""
    labels, axons = demo.found.fibres, demo.found.axons
    away = ndimage.distance_transform_edt(demo.classes != 0)
    row, col = np.nonzero((labels > 0) & (axons == 0) & (away < 1.5))
    owner = labels[row, col]
    thick = np.full(demo.found.count, np.nan)
    for fibre in np.unique(owner):
        mine = owner == fibre
        tree = cKDTree(np.argwhere(axons == fibre))
        thick[fibre - 1] = np.median(tree.query(np.column_stack((row[mine], col[mine])))[0])
    return thick


def print_demo(demo: Demo) -> None:
    """Tables of the agreement with AxonDeepSeg on real masks, and of its reasons."""
    print(f"\n{demo.found.count} fibres, {int(demo.alone.sum())} of them touch no other")
    for model in MODELS:
        rows: dict[tuple[str, ...], list[str]] = {}
        for names in _compared_columns():
            off = np.max([difference(demo, model, name) for name in names], axis=0)
            scale = 1 if names[0].startswith("bbox") else 100
            plain = np.max([difference(demo, "circle", name) for name in names], axis=0)
            if model == "circle" or not np.array_equal(off, plain):
                title = names[0] if len(names) == 1 else "the box, four sides (px)"
                rows.setdefault(tuple(_agreement(off, demo.alone, scale)), []).append(title)
        header = ["column", "identical", "within 1 %", "within 5 %", "median, %", "largest, %"]
        cells = [[", ".join(titles), *shares] for shares, titles in rows.items()]
        show(f"Real masks, {model} model: all fibres; those that touch no other", header, cells)
    why = reasons(demo)
    show(
        "Why fibres differ",
        ["reason", "fibres", "alone"],
        [[k, int(flag.sum()), int((flag & demo.alone).sum())] for k, flag in why.items()],
    )
    kinds = [k for k in why if k != "perimeter"]
    sets = Counter(
        " + ".join(k for k in kinds if why[k][i]) or "none" for i in range(demo.found.count)
    )
    show("Reasons together", ["reasons", "fibres"], sets.most_common())
    for name in ("filled", "corner", "line", "no direction", "left over"):
        flag = why[name] & (demo.alone | (name != "filled"))
        print(f"{name}: ids {(np.flatnonzero(flag) + 1).tolist()}")
    _print_worst(demo)
    _print_figures(demo)


def _compared_columns() -> list[tuple[str, ...]]:
    """Columns that both tools have; the sides of the box together."""
    names = [m.name for m in MEASURES if m.axondeepseg]
    sides = tuple(n for n in names if n.startswith("bbox"))
    return [(n,) for n in names if n not in sides] + [sides]


def _agreement(off: Array, alone: NDArray[np.bool_], scale: int) -> list[str]:
    cells = []
    for limit in (1e-9, 0.01, 0.05):
        cells.append(f"{np.mean(off <= limit):.3f}; {np.mean(off[alone] <= limit):.3f}")
    for figure in (np.median, np.max):
        pair_of = (scale * figure(part[np.isfinite(part)]) for part in (off, off[alone]))
        cells.append("; ".join(f"{value if value > 1e-7 else 0:.3g}" for value in pair_of))
    return cells


def _print_worst(demo: Demo) -> None:
    g, tool = demo.ours("circle", "g_ratio"), demo.theirs["circle"]["gratio"]
    free, diameter = free_thickness(demo), demo.ours("circle", "axon_diameter") / SIZE.um
    solid = {
        "AxonDeepSeg": regionprops_table(demo.their_fibres(), properties=("solidity",))["solidity"],
        "ours": demo.ours("circle", "fibre_solidity"),
    }
    rows = []
    for i in worst(demo):
        by_free = diameter[i] / (diameter[i] + 2 * free[i])
        cells = [i + 1, f"{diameter[i]:.1f}", *(f"{v:.2f}" for v in (tool[i], g[i], by_free))]
        cells += [f"{values[i]:.2f}" for values in solid.values()]
        cells += [f"{demo.ours('circle', n)[i]:.2f}" for n in ("contact_share", "sheath_coverage")]
        rows.append(cells)
    header = ["id", "axon, px", "g, AxonDeepSeg", "ours", "by its free border"]
    header += ["solidity, AxonDeepSeg", "ours", "contact_share", "sheath_coverage"]
    show("The largest differences in g", header, rows)
    shared = reasons(demo)["shared"]
    better = int(np.count_nonzero((solid["ours"] > solid["AxonDeepSeg"])[shared]))
    means = {who: f"{values[shared].mean():.3f}" for who, values in solid.items()}
    print(f"Mean solidity of {shared.sum()} fibres: {means}; ours is higher in {better}")
    print(f"Mean difference of their g: {np.mean((g - tool)[shared]):+.4f}")
    print(f"Mean absolute difference of their g: {np.mean(np.abs(g - tool)[shared]):.4f}")
    touch = (demo.ours("circle", "contact_share") > 0.02) & np.isfinite(free)
    by_free = (diameter / (diameter + 2 * free))[touch]
    for name, values in (("ours", g), ("AxonDeepSeg", tool)):
        off = values[touch] - by_free
        print(f"{name}: g less g by the free border, {touch.sum()} fibres: {_spread(off, 4)}")
    whole = demo.alone & (demo.ours("circle", "touches_border") == 0)
    uneven = demo.ours("circle", "sheath_thickness_sd") / demo.ours(
        "circle", "sheath_thickness_mean"
    )
    middle = np.median(uneven[whole])
    print(f"SD / mean of the thickness, {whole.sum()} whole fibres alone: median {middle:.2f}")


def _print_figures(demo: Demo) -> None:
    rows = []
    for model in MODELS:
        figures = summarise(demo.fibres[model], shape=demo.classes.shape)
        theirs = demo.aggregate[model]
        mine = {
            "avf": figures["avf"],
            "mvf": figures["mvf"],
            "gratio_aggr": figures["aggregate_g_ratio"],
            "axon_density_mm2": figures["density_per_mm2"],
            "mean_axon_diam": demo.ours(model, "axon_diameter").mean(),
        }
        across = mine["mean_axon_diam"] / figures["aggregate_g_ratio"]
        mine |= {"mean_myelin_diam": across}
        mine |= {"mean_myelin_thickness": (across - mine["mean_axon_diam"]) / 2}
        rows += [[model, k, f"{theirs[k]:.6g}", f"{v:.6g}"] for k, v in mine.items()]
    show("The image as a whole", ["model", "figure", "AxonDeepSeg", "ours"], rows)
    print(f"myelin mask / image {np.mean(demo.classes == 1):.6f}")
    print(f"orphan myelin {demo.found.orphan_myelin_px} px of {demo.classes.size}")


# 4. Drawn sets of another project, 5. a nerve.

SETS = (
    "circle",
    "circle_perimeter",
    "border",
    "ellipse_plane",
    "ellipse_gratio",
    "ellipse_radius",
    "ellipse_all",
)
TRUE = {
    "axon_diameter": ("true_axon_diam", "axon_diam (um)"),
    "myelin_thickness": ("true_myelin_thickness", "myelin_thickness (um)"),
    "g_ratio": ("true_gratio", "gratio"),
}
OTHERS = {
    "axon_diameter_fitted": "axon_diameter",
    "g_ratio_fitted": "g_ratio",
    "sheath_thickness_mean": "myelin_thickness",
    "g_ratio_by_thickness": "g_ratio",
}


def simulated(
    folder: Path, name: str, model: AxonShape
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Absolute errors of a drawn set by column, in the order of its truth: ours, and the tool's."""
    found = ours(classes_from_mask(_pixels(folder / f"{name}.png")))
    fibres = measure(found, settings=MeasureSettings(axon_shape=model))
    truth = read_csv(folder / f"{name}_truth.csv")
    theirs = read_csv(folder / f"{name}_{model}_ads550.csv")
    centres = _centres(folder / f"{name}_truth.csv")
    mine = np.stack([_column(fibres, f"centroid_{k}") for k in ("row", "col")], axis=1)
    tool = np.stack([theirs["y0 (px)"], theirs["x0 (px)"]], axis=1)
    own_row, their_row = (cKDTree(points).query(centres)[1] for points in (mine, tool))
    off, their_off = {}, {}
    for column, (true, other) in TRUE.items():
        off[column] = np.abs(_column(fibres, column)[own_row] - truth[true])
        their_off[column] = np.abs(theirs[other][their_row] - truth[true])
    for column, measured in OTHERS.items():
        off[column] = np.abs(_column(fibres, column)[own_row] - truth[TRUE[measured][0]])
    return off, their_off


def _centres(path: Path) -> NDArray[np.int64]:
    """Row and column of each drawn fibre."""
    with path.open(newline="") as file:
        places = [row["true_center_xy"].strip("()").split(",") for row in csv.DictReader(file)]
    return np.array([(int(y), int(x)) for x, y in places])


def print_simulated(folder: Path) -> None:
    """Errors of both tools, and of the columns that only one of them has."""
    rows, extra = [], []
    for name in SETS:
        for model in MODELS:
            off, theirs = simulated(folder, name, model)
            same = all(np.allclose(off[c], theirs[c], rtol=0, atol=1e-9) for c in TRUE)
            tool = ["the same"] * 3 if same else [_off(theirs[c]) for c in TRUE]
            rows.append([name, model, len(off["g_ratio"]), *(_off(off[c]) for c in TRUE), *tool])
            extra.append([name, model, *(_off(off[c]) for c in OTHERS)])
    title = "Drawn sets: mean / largest absolute error"
    tools = [f"{c}, AxonDeepSeg" for c in TRUE]
    show(title, ["set", "model", "fibres", *TRUE, *tools], rows)
    show("Drawn sets: further columns", ["set", "model", *OTHERS], extra)


def _off(values: Array) -> str:
    """Mean and largest error of what is not empty, and of how many that is, if not of all."""
    known = values[np.isfinite(values)]
    if not known.size:
        return "-"
    of = "" if known.size == values.size else f" ({known.size} of {values.size})"
    return _figures(known) + of


def _figures(values: Array) -> str:
    return f"{np.mean(values):.3f} / {np.max(values):.3f}"


def nerve(folder: Path) -> tuple[Fascicles, dict[str, Any]]:
    """Our fascicles of a nerve, and the figures that another tool expects."""
    axon, myelin, mask = (
        _pixels(folder / f"image_seg-{k}.png") for k in ("axon", "myelin", "nerve")
    )
    fibres = measure(
        ours(classes_from_masks(axon, myelin)), pixel_size=PixelSize(0.00236, "option")
    )
    expected = json.loads((folder / "image_nerve_morphometrics_expected.json").read_text())
    return measure_fascicles(mask, fibres), expected


def print_nerve(folder: Path) -> None:
    """Table of a nerve's fascicles."""
    found, expected = nerve(folder)
    rows = []
    for i, theirs in enumerate(expected["fascicle_areas"].values()):
        area, density = found.table["area_um2"][i], found.table["density_per_mm2"][i] / 1e6
        rows.append(
            [i + 1, theirs["value"], area, theirs["axon_density"]["value"], f"{density:.5f}"]
        )
    total, density = expected["total_area"], expected["total_axon_density"]
    mine = found.totals["area_um2"], f"{found.totals['density_per_mm2'] / 1e6:.5f}"
    rows.append(["all", total["value"], mine[0], density["value"], mine[1]])
    header = ["fascicle", "area, um2, expected", "ours", "axons / um2, expected", "ours"]
    show("Fascicles of a nerve", header, rows)


# Pictures: label maps only.

_GREY = (110, 110, 110)


def _tinted(found: Instances, window: tuple[slice, slice], chosen: int, scale: int) -> Array:
    """Part of a label map: a colour for each fibre, axons brighter, one fibre white."""
    colours = np.random.default_rng(5).integers(70, 236, (int(found.fibres.max()) + 1, 3))
    colours[0] = 0
    fibres, axons = found.fibres[window], found.axons[window]
    picture = colours[fibres] * 0.55
    picture[axons > 0] = colours[axons[axons > 0]]
    if chosen:
        picture[fibres == chosen] = (200, 200, 200)
        picture[axons == chosen] = 255
    return np.kron(picture.astype(np.uint8), np.ones((scale, scale, 1), np.uint8))


def _captioned(panels: list[Array], captions: list[str], across: int) -> Image.Image:
    """Panels of one size in rows, each with a line of text above it."""
    height, width = panels[0].shape[:2]
    down = math.ceil(len(panels) / across)
    picture = Image.new("RGB", (across * (width + 6) - 6, down * (height + 20)), "white")
    pen = ImageDraw.Draw(picture)
    for i, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        left, top = (i % across) * (width + 6), (i // across) * (height + 20)
        pen.text((left + 2, top + 4), caption, fill="black")
        picture.paste(Image.fromarray(panel), (left, top + 18))
    return picture


def _save(picture: Image.Image, name: str) -> None:
    picture.quantize(255, dither=Image.Dither.NONE).save(DOCS / name, optimize=True)


def draw_contacts() -> None:
    """One thick and one thin fibre, parted by each rule."""
    classes, axons, fibres = pair(*THICK_AND_THIN, overlap=5)
    maps = {"drawn": Instances(axons, fibres, 2), **{k: rule(classes) for k, rule in RULES.items()}}
    window = np.s_[20:150, 60:244]
    panels = [_tinted(found, window, 0, 2) for found in maps.values()]
    _save(_captioned(panels, list(maps), 2), "accuracy_contact.png")


def draw_worst(demo: Demo, half: int = 40) -> None:
    """The largest differences in g: the fibre in white, by the other tool on the left, ours on the right."""
    tool = Instances(demo.found.axons, demo.their_fibres(), demo.found.count)
    panels, captions = [], []
    for i in worst(demo):
        centre = [round(demo.ours("circle", f"centroid_{k}")[i]) for k in ("row", "col")]
        corner = [
            max(0, min(c - half, n - 2 * half))
            for c, n in zip(centre, demo.classes.shape, strict=True)
        ]
        window = tuple(slice(c, c + 2 * half) for c in corner)
        for found, g, who in (
            (tool, demo.theirs["circle"]["gratio"], "AxonDeepSeg"),
            (demo.found, demo.ours("circle", "g_ratio"), "ours"),
        ):
            panels.append(_tinted(found, window, int(i) + 1, 3))  # type: ignore[arg-type]
            captions.append(f"{i + 1}: {who}, g {g[i]:.2f}")
    _save(_captioned(panels, captions, 4), "accuracy_worst.png")


def main() -> None:
    """Print every table and draw every picture."""
    print_shapes()
    print_cut()
    print_contacts()
    draw_contacts()
    folder = reference()
    if folder is None:
        print("\nNo reference folder here: set RANVIER_DATA to its sibling for the other tables.")
        return
    demo = Demo(folder / "demo")
    print_demo(demo)
    draw_worst(demo)
    print_simulated(folder / "simulated")
    print_nerve(folder / "nerve")


if __name__ == "__main__":
    main()
