from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ranvier.instances import InstanceSettings, separate
from ranvier.micrograph import Instances
from ranvier.morphometrics import measure
from ranvier.summary import summarise

SCENES = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.integers(0, 2)
)
WAYS = st.builds(
    InstanceSettings,
    min_axon_area=st.integers(0, 6),
    fill_holes=st.booleans(),
    max_gap_px=st.integers(0, 3),
)
TURNS = [np.fliplr, np.flipud, np.rot90, np.transpose]
INVARIANT = (
    "axon_area_px2",
    "myelin_area_px2",
    "fibre_area_px2",
    "axon_perimeter_px",
    "fibre_perimeter_px",
    "g_ratio",
    "axon_eccentricity",
    "fibre_eccentricity",
    "axon_solidity",
    "fibre_solidity",
    "touches_border",
)


@settings(max_examples=150, deadline=None)
@given(classes=SCENES, way=WAYS)
def test_instances_hold_by_construction(classes: np.ndarray, way: InstanceSettings) -> None:
    found = separate(classes, settings=way)
    axons, fibres, n = found.axons, found.fibres, found.count
    assert np.array_equal(np.unique(axons[axons > 0]), np.arange(1, n + 1))
    assert (fibres[axons > 0] == axons[axons > 0]).all()
    first = np.unique(axons[axons > 0], return_index=True)[1]
    assert (np.diff(first) > 0).all()
    assert found.orphan_myelin_px == np.count_nonzero((classes == 1) & (fibres == 0))
    assert (np.bincount(axons.ravel(), minlength=n + 1)[1:] >= way.min_axon_area).all()
    if not way.fill_holes:
        assert (classes[axons > 0] == 2).all()
        assert (classes[(fibres > 0) & (axons == 0)] == 1).all()
    again = separate(classes, settings=way)
    assert np.array_equal(again.fibres, fibres)


@settings(max_examples=150, deadline=None)
@given(classes=SCENES, way=WAYS)
def test_measurements_hold_by_construction(classes: np.ndarray, way: InstanceSettings) -> None:
    fibres = measure(separate(classes, settings=way))
    table = fibres.table
    total = table["axon_area_px2"] + table["myelin_area_px2"]
    assert np.array_equal(total, table["fibre_area_px2"])
    assert (table["axon_area_px2"] > 0).all()
    assert (table["myelin_area_px2"] >= 0).all()
    assert (table["myelin_thickness_px"] >= 0).all()
    assert np.array_equal(np.isnan(table["g_ratio"]), ~table["myelinated"])
    g = table["g_ratio"][table["myelinated"]]
    assert ((g > 0) & (g < 1)).all()
    for kind in ("axon", "fibre"):
        assert ((table[f"{kind}_solidity"] > 0) & (table[f"{kind}_solidity"] <= 1)).all()
        assert ((table[f"{kind}_eccentricity"] >= 0) & (table[f"{kind}_eccentricity"] <= 1)).all()
        angle = table[f"{kind}_orientation_rad"]
        angle = angle[np.isfinite(angle)]
        assert ((angle > -np.pi / 2) & (angle <= np.pi / 2)).all()
    figures = summarise(fibres, shape=classes.shape)
    fvf = figures["fvf"]
    assert isinstance(fvf, float)
    assert fvf == pytest.approx(np.mean(fibres.instances.fibres > 0))


@settings(max_examples=60, deadline=None)
@given(classes=SCENES, turn=st.sampled_from(TURNS))
def test_turned_labels_measure_the_same(classes: np.ndarray, turn: object) -> None:
    assert callable(turn)
    found = separate(classes, settings=InstanceSettings(min_axon_area=1))
    turned = Instances(turn(found.axons).copy(), turn(found.fibres).copy(), found.count)
    before, after = measure(found).table, measure(turned).table
    for name in INVARIANT:
        assert np.allclose(before[name], after[name], atol=1e-7, equal_nan=True), name


@settings(max_examples=60, deadline=None)
@given(classes=SCENES, turn=st.sampled_from(TURNS))
def test_turned_images_have_the_same_axons_and_orphans(classes: np.ndarray, turn: object) -> None:
    assert callable(turn)
    way = InstanceSettings(min_axon_area=1)
    one, other = separate(classes, settings=way), separate(turn(classes).copy(), settings=way)
    assert one.count == other.count
    assert np.array_equal(turn(one.axons) > 0, other.axons > 0)
    # Each axon covers the same pixels under one id of its own.
    pairs = np.unique(np.stack([turn(one.axons).ravel(), other.axons.ravel()], 1), axis=0)
    assert len(pairs) == len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1]))


@settings(max_examples=60, deadline=None)
@given(classes=SCENES, seed=st.integers(0, 99))
def test_permuted_ids_permute_the_rows(classes: np.ndarray, seed: int) -> None:
    found = separate(classes, settings=InstanceSettings(min_axon_area=1))
    order = np.random.default_rng(seed).permutation(found.count)
    new = np.append(0, order + 1).astype(np.int32)
    before = measure(found).table
    after = measure(Instances(new[found.axons], new[found.fibres], found.count)).table
    for name in (n for n in before if n != "id"):
        assert np.array_equal(before[name], after[name][order], equal_nan=True), name
