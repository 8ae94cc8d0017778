"""Who may import whom, read from the source; and that importing the library is light."""

from __future__ import annotations

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import denoise

ROOT = Path(denoise.__file__).parent.parent

# Each part may import from its own row and the rows below it.
LAYERS = (
    ("adaptation",),
    ("train", "targets"),
    ("infer", "weights", "data", "recipe", "analysis", "export"),
    ("models", "losses", "optimizers"),
    ("io", "corruptions", "metrics", "estimate", "hearing"),
    ("errors", "signal", "registry", "parameters"),
)
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
HEAVY = ("torch", "scipy", "skimage", "matplotlib", "soundfile", "soxr", "pandas", "pyarrow", "pywt", "PIL")


def imports(path: Path) -> set[str]:
    """Full dotted names of what a file imports, at its top or inside its functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@functools.cache
def edges() -> dict[str, set[str]]:
    """Which part of the library imports which others."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "denoise").rglob("*.py"):
        part = path.relative_to(ROOT / "denoise").parts[0].removesuffix(".py")
        targets = {name.split(".")[1] for name in imports(path) if name.startswith("denoise.")}
        if part != "__init__":
            found.setdefault(part, set()).update(targets - {part, "__version__"})
    return found


def test_each_part_of_the_library_has_a_layer() -> None:
    assert set(edges()) <= set(RANK)


@pytest.mark.parametrize("part", sorted(edges()))
def test_imports_go_downwards(part: str) -> None:
    upwards = {target for target in edges()[part] if RANK.get(target, -1) < RANK[part]}
    assert not upwards, f"denoise.{part} imports from above: {sorted(upwards)}"


def test_parts_do_not_import_each_other_in_a_circle() -> None:
    tuple(graphlib.TopologicalSorter(edges()).static_order())


def test_the_library_does_not_know_the_pipelines() -> None:
    for path in (ROOT / "denoise").rglob("*.py"):
        assert not any(name.split(".")[0] in ("pipelines", "click", "tqdm") for name in imports(path)), path


def test_io_does_not_import_torch() -> None:
    for path in (ROOT / "denoise" / "io").rglob("*.py"):
        assert not any(name.split(".")[0] == "torch" for name in imports(path)), path


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running `code`."""
    script = f"{code}\nimport sys\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import denoise; denoise.__version__, denoise.DenoiseError",
        "from denoise.infer import DEFAULT_MODELS; from denoise.models import MODELS",
    ],
)
def test_tables_and_names_are_light(code: str) -> None:
    loaded = loaded_after(code)
    assert "denoise" in loaded
    assert not loaded & set(HEAVY)


def test_every_public_name_is_there() -> None:
    assert sorted(denoise.__all__) == denoise.__all__
    assert len(set(denoise.__all__)) == len(denoise.__all__)
    for name in denoise.__all__:
        assert getattr(denoise, name) is not None
    assert dir(denoise) == sorted(denoise.__all__)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        denoise.nothing_like_it  # noqa: B018
