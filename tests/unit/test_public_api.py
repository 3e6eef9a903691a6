"""The surface: what is exported, what it costs to import, and that README's code runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ranvier

HEAVY = (
    "torch",
    "matplotlib",
    "napari",
    "PySide6",
    "tkinter",
    "flask",
    "fastapi",
    "pandas",
    "openvino",
    "scipy",
)
ROOT = Path(__file__).parents[2]


def fresh(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    ).stdout


def test_all_is_what_is_exported():
    assert set(ranvier.__all__) == {"read", "load_model", "segment", "measure", "save", "evaluate"}
    for name in ranvier.__all__:
        assert callable(getattr(ranvier, name))
        assert getattr(ranvier, name).__doc__
        assert name in dir(ranvier)
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        ranvier.train  # noqa: B018


def test_importing_loads_nothing_heavy():
    loaded = fresh(
        "import sys, ranvier; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    ).split()
    assert not set(HEAVY) & set(loaded)


def test_importing_is_quick():
    code = "import time; t = time.perf_counter(); import ranvier; print(time.perf_counter() - t)"
    assert min(float(fresh(code)) for _ in range(3)) < 0.3


def test_segmenting_needs_no_torch(examples):
    code = (
        "import sys; sys.modules['torch'] = None; import ranvier; "
        f"s = ranvier.segment(ranvier.read({str(examples / 'sem.png')!r})); "
        "print(len(ranvier.measure(s)), [m for m in sys.modules if m.startswith(('torch.', 'nncf', 'pandas'))])"
    )
    count, loaded = fresh(code).split(maxsplit=1)
    assert int(count) > 100
    assert loaded.strip() == "[]"


def test_nothing_is_reported_to_anyone(examples, tmp_path):
    code = (
        "import sys, ranvier; ranvier.segment(ranvier.read(sys.argv[1])); "
        "print(any(m.startswith('openvino_telemetry') for m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(examples / "tem.png")],
        check=True, capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.strip() == "False"
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())


def test_the_code_in_readme_runs(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert blocks
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert list(tmp_path.glob("**/*.csv"))
