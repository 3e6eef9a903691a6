from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ranvier.collected import collect
from ranvier.errors import DatasetError, InputError
from ranvier.exporting import table_csv
from ranvier.groups import GROUP_COLUMNS, Grouped, summarise_groups
from ranvier.samples import read_samples, template
from ranvier.summary import SummarySettings


def write_result(folder: Path, stem: str, g_ratios: list[float], **changes: Any) -> None:
    """Results of one 100 x 100 image at 0.1 um (10 x 10 um), every axon 1 um2."""
    folder.mkdir(exist_ok=True)
    unit = changes.pop("unit", "um")
    border = changes.pop("border", [False] * len(g_ratios))
    g = np.array(g_ratios, float)
    table = {
        "id": np.arange(1, len(g) + 1),
        "bbox_left_px": np.full(len(g), 5),
        "bbox_bottom_px": np.where(np.array(border, bool), 100, 50),
        "touches_border": np.array(border, bool),
        f"axon_area_{unit}2": np.ones(len(g)),
        f"myelin_area_{unit}2": 1 / g**2 - 1,
        f"axon_diameter_{unit}": np.full(len(g), 2 / np.sqrt(np.pi)),
        "g_ratio": g,
        "myelinated": np.ones(len(g), bool),
        **changes.pop("columns", {}),
    }
    content = table_csv(table)
    (folder / f"{stem}_morphometrics.csv").write_bytes(content)
    run = {
        "ranvier": "1",
        "command": "segment",
        "complete": True,
        "units": unit,
        "model": {"sha256": "a"},
        "settings": {},
        "inputs": [
            {
                "path": f"/data/{stem}.tif",
                "shape": [100, 100],
                "pixel_size_um": 0.1 if unit == "um" else None,
            }
        ],
        "summary": {},
        "outputs": {f"{stem}_morphometrics.csv": hashlib.sha256(content).hexdigest()},
        **changes,
    }
    (folder / f"{stem}_run.json").write_text(json.dumps(run))


def write_samples(path: Path, *rows: str, header: str = "image,subject,group") -> Path:
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return path


def row(table: Any, **keys: str) -> dict[str, Any]:
    """The one row with these values."""
    at = [
        i
        for i in range(len(next(iter(table.values()))))
        if all(table[k][i] == v for k, v in keys.items())
    ]
    assert len(at) == 1, keys
    return {name: values[at[0]] for name, values in table.items()}


@pytest.fixture
def study(tmp_path: Path) -> tuple[Path, Path]:
    """Group x: subject a with 100 fibres of g 0.5 in two images, subject b with 2 of 0.7; y: c."""
    folder = tmp_path / "res"
    write_result(folder, "a1", [0.5] * 60)
    write_result(folder, "a2", [0.5] * 40)
    write_result(folder, "b1", [0.7] * 2)
    write_result(folder, "c1", [0.8, 0.6])
    samples = write_samples(tmp_path / "s.csv", "a1.tif,a,x", "a2,a,x", "b1.png,b,x", "c1,c,y")
    return folder, samples


def test_many_fibres_of_one_subject_do_not_outweigh_another(study: tuple[Path, Path]) -> None:
    found = summarise_groups([study[0]], study[1])
    x = row(found.groups, group="x", measure="g_ratio_mean")
    assert (x["n_subjects"], x["mean"]) == (2, pytest.approx(0.6))  # of fibres it would be 0.504
    assert x["sd"] == pytest.approx(np.std([0.5, 0.7], ddof=1))
    assert x["sem"] == pytest.approx(0.1)
    low, high = stats.t.interval(0.95, 1, loc=0.6, scale=0.1)
    assert (x["ci95_low"], x["ci95_high"]) == (pytest.approx(low), pytest.approx(high))
    y = row(found.groups, group="y", measure="g_ratio_mean")
    assert (y["n_subjects"], y["mean"]) == (1, pytest.approx(0.7))
    assert all(np.isnan(y[name]) for name in ("sd", "sem", "ci95_low", "ci95_high"))
    assert tuple(found.groups) == GROUP_COLUMNS


def test_subjects_pool_areas_and_fibres(study: tuple[Path, Path]) -> None:
    found = summarise_groups([study[0]], study[1])
    a = row(found.subjects, subject="a")
    assert (a["group"], a["n_images"], a["n_fibres"], a["n_fibres_in_means"]) == ("x", 2, 100, 100)
    assert a["image_area_um2"] == pytest.approx(200)
    assert a["avf"] == pytest.approx(100 / 200)
    assert a["mvf"] == pytest.approx(300 / 200)
    assert a["aggregate_g_ratio"] == pytest.approx(0.5)
    assert a["density_per_mm2"] == pytest.approx(100 / 200e-6)
    assert np.isnan(a["density_per_mm2_tissue"])
    assert found.images["image"].tolist() == ["a1.tif", "a2", "b1.png", "c1"]
    assert found.images["fibre_count"].tolist() == [60, 40, 2, 2]
    assert found.images["avf"] == pytest.approx([0.6, 0.4, 0.02, 0.02])
    assert len(found.fibres["g_ratio"]) == 104
    assert list(found.fibres)[:4] == ["image", "subject", "group", "id"]
    assert set(found.fibres["subject"][:100]) == {"a"}
    assert found.warnings == ()
    assert [s["subject"] for s in found.sources] == ["a", "a", "b", "c"]


def test_border_is_left_out_of_means_unless_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "res"
    write_result(folder, "a", [0.5, 0.7], border=[False, True])
    samples = write_samples(tmp_path / "s.csv", "a,a", header="image,subject")
    for include, mean, used in ((False, 0.5, 1), (True, 0.6, 2)):
        settings = SummarySettings(include_border=include)
        found = summarise_groups([folder], samples, settings=settings)
        subject = row(found.subjects, subject="a", group="all")
        assert subject["g_ratio_mean"] == pytest.approx(mean)
        assert (subject["n_fibres"], subject["n_fibres_in_means"]) == (2, used)
        assert subject["density_per_mm2_unbiased"] == pytest.approx(1e4)


def test_tissue_of_the_runs_is_pooled_by_area(tmp_path: Path) -> None:
    folder = tmp_path / "res"
    for stem, area, avf, density in (("a1", 50.0, 0.4, 100.0), ("a2", 100.0, 0.1, 400.0)):
        tissue = {
            "tissue_area_um2": area,
            "tissue_source": "image",
            "avf_tissue": avf,
            "density_per_mm2_tissue": density,
        }
        write_result(folder, stem, [0.6], summary=tissue)
    samples = write_samples(tmp_path / "s.csv", "a1,a,x", "a2,a,x")
    found = summarise_groups([folder], samples)
    a = row(found.subjects, subject="a")
    assert a["tissue_area_um2"] == 150
    assert a["avf_tissue"] == pytest.approx(0.2)
    assert a["density_per_mm2_tissue"] == pytest.approx(300)
    assert found.images["tissue_source"].tolist() == ["image", "image"]


def test_images_without_fibres_count_with_their_area(tmp_path: Path) -> None:
    folder = tmp_path / "res"
    write_result(folder, "a1", [0.5] * 4)
    write_result(folder, "a2", [])
    samples = write_samples(tmp_path / "s.csv", "a1,a,x", "a2,a,x")
    found = summarise_groups([folder], samples)
    a = row(found.subjects, subject="a")
    assert a["avf"] == pytest.approx(4 / 200)
    assert a["g_ratio_mean"] == pytest.approx(0.5)
    assert np.isnan(found.images["g_ratio_mean"][1])
    assert found.fibres["touches_border"].dtype == bool
    assert b"nan" not in table_csv(found.images).lower()


def test_new_columns_and_what_only_some_tables_have(tmp_path: Path) -> None:
    folder = tmp_path / "res"
    new = {"confidence": np.array([0.5, 1.0]), "merged": np.array([True, False])}
    write_result(folder, "a", [0.5, 0.6], columns={**new, "tiny": np.array([False, True])})
    write_result(folder, "b", [0.5, 0.6], columns=new)
    samples = write_samples(tmp_path / "s.csv", "a,a,x", "b,b,x")
    found = summarise_groups([folder], samples)
    assert found.subjects["confidence_mean"].tolist() == [0.75, 0.75]
    assert found.images["merged_count"].tolist() == [1, 1]
    assert "tiny" not in found.fibres
    assert found.warnings == ("left out, not in every table: tiny",)


def test_differences_are_told(study: tuple[Path, Path]) -> None:
    folder, samples = study
    write_result(folder, "a1", [0.5], ranvier="2", model={"sha256": "b"}, settings={"zoom": 2})
    table = folder / "b1_morphometrics.csv"
    table.write_bytes(table.read_bytes().replace(b"0.7", b"0.8"))
    found = summarise_groups([folder], samples).warnings
    assert found == (
        "different versions of Ranvier: a1 | a2, b1, c1",
        "different models: a1 | a2, b1, c1",
        "different settings: a1 | a2, b1, c1",
        "tables changed since they were written: b1",
    )


def test_pixels_and_micrometres_do_not_mix(study: tuple[Path, Path]) -> None:
    write_result(study[0], "b1", [0.5], unit="px")
    with pytest.raises(InputError, match="px: b1; um: a1, a2, c1"):
        summarise_groups([study[0]], study[1])


def test_a_study_in_pixels(tmp_path: Path) -> None:
    write_result(tmp_path / "res", "a", [0.5], unit="px")
    found = summarise_groups([tmp_path / "res"], write_samples(tmp_path / "s.csv", "a,a,x"))
    assert found.subjects["avf"] == pytest.approx([1e-4])
    assert np.isnan(found.subjects["density_per_mm2"]).all()
    assert not [name for name in found.subjects if "_um" in name]


def test_other_columns_are_carried_along(study: tuple[Path, Path], tmp_path: Path) -> None:
    rows = ("a1,a,x,m,left", "a2,a,x,m,right", "b1,b,x,f,left", "c1,c,y,f,left")
    samples = write_samples(tmp_path / "s.csv", *rows, header="image,subject,group,sex,side")
    found = summarise_groups([study[0]], samples)
    assert found.subjects["sex"].tolist() == ["m", "f", "f"]
    assert "side" not in found.subjects  # not one per subject
    assert found.images["side"].tolist() == ["left", "right", "left", "left"]
    assert set(found.fibres["sex"][:60]) == {"m"}
    clash = write_samples(tmp_path / "t.csv", *rows, header="image,subject,group,g_ratio,avf")
    with pytest.raises(DatasetError, match=r"g_ratio has the name(.|\n)*avf has the name"):
        summarise_groups([study[0]], clash)


def test_every_problem_is_listed_with_its_line(study: tuple[Path, Path], tmp_path: Path) -> None:
    rows = ("a1,a,x", "a2,a,y", "a1,a,x", "b1,,x", "gone.png,d,x", "a2.tif,a,x", "b1,e", "a3,a,")
    samples = write_samples(tmp_path / "bad.csv", *rows)
    (study[0] / "broken_run.json").write_text("{")
    write_result(study[0], "half", [0.5], complete=False)
    with pytest.raises(DatasetError) as caught:
        summarise_groups([study[0], tmp_path / "nowhere"], samples)
    text = str(caught.value)
    for said in (
        "line 3: subject a is in group y here and in group x in line 2",
        "line 4: image a1 is in line 2, too",
        "line 5: no subject",
        "line 6: no results of image gone.png",
        "line 7: image a2.tif has the results of a2 in line 3",
        "line 8: 2 cells instead of 3",
        "line 9: no group",
        "line 9: no results of image a3",
        "no row for the results of c1",
        "broken_run.json: this record cannot be read",
        "half_run.json: these results are not complete",
        "nowhere: no results here",
    ):
        assert said in text, said


def test_missing_and_double_columns_are_told(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "s.csv", "1,2,3", header="name,Subject,group,group")
    with pytest.raises(DatasetError, match=r"line 1: no column image(.|\n)*group stands 2 times"):
        read_samples(path)
    path.write_bytes(b"")
    with pytest.raises(DatasetError, match="empty"):
        read_samples(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_samples(tmp_path / "none.csv")
    path.write_bytes("image,subject\nä,b\n".encode("latin-1"))
    with pytest.raises(DatasetError, match="not UTF-8"):
        read_samples(path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_of_any_program(tmp_path: Path, delimiter: str, mark: bytes, end: str) -> None:
    lines = ["Image|SUBJECT|Group|note", "ä 1.tif|rät|x|1,5", "", '"b"|m| y |"a;b, c"']
    text = end.join(line.replace("|", delimiter) for line in lines)
    if delimiter != "\t":
        text = text.replace("1,5", '"1,5"')
    path = tmp_path / "s.txt"
    path.write_bytes(mark + text.encode())
    found = read_samples(path)
    assert found.problems == ()
    assert [(r.image, r.subject, r.group, r.line) for r in found.rows] == [
        ("ä 1.tif", "rät", "x", 2),
        ("b", "m", "y", 4),
    ]
    assert [r.extra["note"] for r in found.rows] == ["1,5", "a;b, c"]


def test_template_is_read_back(tmp_path: Path) -> None:
    for name, delimiter in (("s.tsv", b"\t"), ("s.csv", b",")):
        path = tmp_path / name
        path.write_bytes(template(["a", "b,c"], path))
        assert path.read_bytes().startswith(b"image" + delimiter)
        found = read_samples(path)
        assert [r.image for r in found.rows] == ["a", "b,c"]
        assert len(found.problems) == 4


def test_names_with_dots_and_two_folders(tmp_path: Path) -> None:
    write_result(tmp_path / "one", "n.1", [0.5])
    write_result(tmp_path / "two", "n", [0.6])
    samples = write_samples(tmp_path / "s.csv", "n.1,a,x", "n.ome.tif,b,x")
    found = summarise_groups([tmp_path / "one", tmp_path / "two"], samples)
    assert found.subjects["g_ratio_mean"] == pytest.approx([0.5, 0.6])
    write_result(tmp_path / "two", "n.1", [0.5])
    with pytest.raises(
        DatasetError, match=r"line 2: image n\.1 may mean any of one/n\.1, two/n\.1: write which"
    ):
        summarise_groups([tmp_path / "one", tmp_path / "two"], samples)


def test_results_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two", tmp_path / "more" / "two"]
    for folder, g_ratio in zip(folders, (0.5, 0.6, 0.7), strict=True):
        folder.mkdir(parents=True)
        write_result(folder, "n", [g_ratio])
    assert [r.name for r in collect(folders)[0]] == [
        f"{tmp_path.name}/one/n",
        f"{tmp_path.name}/two/n",
        "more/two/n",
    ]
    rows = ("one/n,a,x", f"{tmp_path.name}/two/n.tif,b,x", "more\\two\\n,c,x")
    found = summarise_groups(folders, write_samples(tmp_path / "s.csv", *rows))
    assert found.subjects["g_ratio_mean"] == pytest.approx([0.5, 0.6, 0.7])
    rows = ("one/n,a,x", "two/n,b,x", "three/n,c,x")
    with pytest.raises(DatasetError) as caught:
        summarise_groups(folders, write_samples(tmp_path / "s.csv", *rows))
    text = str(caught.value)
    assert f"line 3: image two/n may mean any of {tmp_path.name}/two/n, more/two/n: write" in text
    assert "line 4: no results of image three/n" in text
    assert "no row" not in text


def test_tissue_found_from_different_things_is_told(study: tuple[Path, Path]) -> None:
    for stem, source in (("a1", "mask"), ("a2", "image"), ("b1", "image")):
        write_result(study[0], stem, [0.5], summary={"tissue_source": source})
    (told,) = summarise_groups([study[0]], study[1]).warnings
    assert told.startswith("tissue found from different things")
    assert told.endswith("mask: a1 | image: a2, b1 | not known: c1")


def test_an_unreadable_table_is_one_problem(study: tuple[Path, Path]) -> None:
    table = study[0] / "a1_morphometrics.csv"
    table.write_bytes(table.read_bytes().replace(b"0.5", b"half", 1))
    with pytest.raises(DatasetError) as caught:
        summarise_groups([study[0]], study[1])
    assert "1 problem(s)" in str(caught.value)
    assert f"{table}: column g_ratio" in str(caught.value)
    assert "line 2: 'half'" in str(caught.value)


def test_empty_columns_at_the_end_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("image,subject,,\na,m,,\nb,n,,,\nc,o\n")
    found = read_samples(path)
    assert (found.problems, found.extra_columns) == ((), ())
    assert [(r.image, r.subject) for r in found.rows] == [("a", "m"), ("b", "n"), ("c", "o")]
    path.write_text("image,subject,note,\na,m,,\nb,n,,x\n")
    found = read_samples(path)
    assert found.extra_columns == ("note",)
    assert found.problems == ("line 3: 4 cells instead of 3",)


@pytest.mark.parametrize("seed", range(5))
def test_figures_of_groups_are_those_of_scipy(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, means = [], {}
    for subject in range(rng.integers(2, 7)):
        values = []
        for image in range(rng.integers(1, 4)):
            drawn = rng.uniform(0.4, 0.9, rng.integers(1, 9)).tolist()
            write_result(tmp_path / "res", f"s{subject}i{image}", drawn)
            rows.append(f"s{subject}i{image},s{subject},x")
            values += drawn
        means[subject] = np.mean(values)
    found = summarise_groups([tmp_path / "res"], write_samples(tmp_path / "s.csv", *rows))
    group = row(found.groups, group="x", measure="g_ratio_mean")
    of_subjects = list(means.values())
    mean, sem = np.mean(of_subjects), stats.sem(of_subjects)
    low, high = stats.t.interval(0.95, len(of_subjects) - 1, loc=mean, scale=sem)
    expected = {"mean": mean, "sem": sem, "ci95_low": low, "ci95_high": high}
    assert group["n_subjects"] == len(of_subjects)
    assert {name: group[name] for name in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (b"0.7", b"high", "g_ratio of this table holds values"),
        (b"False", b"maybe", "touches_border of this table holds values"),
        (b"g_ratio", b"ratio", "lacks columns"),
        (b"\n2,", b"\n2,2,", "too short or too long.*line 3: 10 cells instead of 9"),
        (b"\n2,", b"\n--5,", r"b1_morphometrics\.csv: column id .*line 3: '--5'"),
        (b"\n2,", b"\n99999999999999999999,", "column id .*line 3: '99999999999999999999'"),
        (b"\n2,", b"\n,", "column id .*line 3: ''"),
        (b",1.0,", b",,", "column axon_area_um2 .*line 2: '', line 3: ''"),
        (b"0.7", b"inf", "column g_ratio .*line 2: 'inf'"),
        (b"0.7", b"0_7", "column g_ratio .*line 2: '0_7'"),
    ],
)
def test_tables_that_make_no_sense(
    study: tuple[Path, Path], old: bytes, new: bytes, text: str
) -> None:
    table = study[0] / "b1_morphometrics.csv"
    table.write_bytes(table.read_bytes().replace(old, new))
    with pytest.raises(DatasetError, match=text):
        summarise_groups([study[0]], study[1])


def test_grouped_defaults_are_not_shared() -> None:
    assert Grouped({}, {}, {}, {}).sources == ()
