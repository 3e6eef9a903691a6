"""One command on a folder of odd and hostile files among good ones."""

from __future__ import annotations

import io
import shutil
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from ranvier.apps.cli import main
from ranvier.datasets.phantom import PhantomSettings, draw


def saved(pixels, **options):
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, **options)
    return buffer.getvalue()


def bomb():
    """A PNG whose header claims 100 000 x 100 000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk


@pytest.fixture(scope="module")
def grey():
    return draw(PhantomSettings(shape=(160, 200), look="SEM", seed=5)).image.pixels


def odd_files(grey, folder):
    """Names to (content, whether it is an image that can be segmented)."""
    colour = np.stack([grey] * 3, axis=2)
    alpha = np.dstack((grey, np.full_like(grey, 255)))
    palette = Image.fromarray(grey).convert("P", palette=Image.Palette.ADAPTIVE, colors=200)
    tifffile.imwrite(folder / "twelve_bit.tif", grey.astype(np.uint16) << 4)
    tifffile.imwrite(folder / "float_rgb.tif", colour.astype(np.float32) / 255, photometric="rgb")
    tifffile.imwrite(folder / "two_pages.tif", np.stack((grey, grey)), photometric="minisblack")
    strip = np.tile(grey[:, :150], (1, 200))[:, :30_000]
    tifffile.imwrite(folder / "strip.tif", np.vstack((strip, strip[:40])), compression="zlib")
    contents = {
        "truncated.png": (saved(grey, format="PNG")[:4000], False),
        "bomb.png": (bomb(), False),
        "palette.png": (saved(palette, format="PNG"), True),
        "grey_alpha.png": (saved(alpha, format="PNG"), True),
        "cmyk.jpg": (saved(Image.fromarray(colour).convert("CMYK"), format="JPEG"), False),
        "text.png": (b"These are the notes of a nerve.\n", False),
        "one.png": (saved(grey[:1, :1], format="PNG"), True),
        "forty.png": (saved(grey[:40, :40], format="PNG"), True),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    good = {name: ok for name, (_, ok) in contents.items()}
    return good | {
        "twelve_bit.tif": True,
        "float_rgb.tif": True,
        "two_pages.tif": False,
        "strip.tif": True,
    }


def test_each_is_segmented_or_refused_and_the_others_done(tmp_path, capsys, grey):
    folder = tmp_path / "in"
    folder.mkdir()
    expected = odd_files(grey, folder) | {"good.png": True}
    (folder / "good.png").write_bytes(saved(grey, format="PNG"))
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "segment",
                str(folder),
                "-o",
                str(tmp_path / "out"),
                "--precision",
                "int8",
                "--views",
                "1",
            ]
        )
    out, err = capsys.readouterr()
    assert ended.value.code == 1
    assert "Traceback" not in out + err
    refused = sorted(name for name, good in expected.items() if not good)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(refused)
    assert all(any(name in line for line in errors) for name in refused)
    for name, good in expected.items():
        stem = name.split(".")[0]
        made = list((tmp_path / "out").glob(f"{stem}_*"))
        assert len(made) == (7 if good else 0), name
        if good:
            with Image.open(tmp_path / "out" / f"{stem}_seg-axonmyelin.png") as mask:
                classes = np.array(mask)
            assert set(np.unique(classes)) <= {0, 127, 255}
    same = [
        (tmp_path / "out" / f"{stem}_seg-axonmyelin.png").read_bytes()
        for stem in ("good", "grey_alpha", "twelve_bit", "float_rgb")
    ]
    assert same[0] == same[1]
    assert same[0] == same[2]
    shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize("bits", [8, 16])
def test_png_and_tiff_of_the_same_pixels_give_the_same_bytes(tmp_path, grey, bits):
    pixels = grey if bits == 8 else grey.astype(np.uint16) * np.uint16(200) + np.uint16(3)
    results = []
    for name in ("x.png", "x.tif"):
        path = tmp_path / name[2:] / name
        path.parent.mkdir()
        if name == "x.png":
            Image.fromarray(pixels).save(path)
        else:
            tifffile.imwrite(path, pixels)
        with pytest.raises(SystemExit) as ended:
            main(["segment", str(path), "--pixel-size", "0.1"])
        assert ended.value.code == 0
        made = sorted((path.parent / "ranvier").iterdir())
        results.append({p.name: p.read_bytes() for p in made if not p.name.endswith("_run.json")})
    assert results[0] == results[1]
    assert len(results[0]) == 6
