"""Layers of both packages, by their imports; and light imports of the library."""

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import denoise

ROOT = Path(denoise.__file__).parent.parent

# A module may import its own layer and those below it. The longest matching prefix gives its layer.
LAYERS = (
    ("pipelines.cli",),
    tuple(
        f"pipelines.{part}"
        for part in ("live", "sound_card", "benchmark", "explore", "inspect", "curve", "view", "serve")
    ),
    ("pipelines.report",),
    ("pipelines.batch", "pipelines.score"),
    ("pipelines",),
    ("denoise.training.adapt", "denoise.analysis"),
    ("denoise.training.fit", "denoise.training.self_supervised", "denoise.export"),
    ("denoise.infer", "denoise.plot", "denoise.compression"),
    ("denoise.training", "denoise.weights", "denoise.options"),
    ("denoise.models",),
    ("denoise.corruptions", "denoise.estimate", "denoise.metrics"),
    ("denoise.io",),
    ("denoise.dsp", "denoise.signal"),
    ("denoise.arrays", "denoise.errors", "denoise.registry", "denoise.machine", "denoise.analysis.estimator"),
    ("denoise",),
)
HEAVY = ("torch", "scipy", "skimage", "matplotlib", "soundfile", "soxr", "pandas", "pyarrow", "pywt", "PIL")


def layer(module: str) -> int:
    """Rank of a module's layer, 0 at the top."""
    ranks = {prefix: rank for rank, prefixes in enumerate(LAYERS) for prefix in prefixes}
    parts = module.split(".")
    return next(ranks[name] for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in ranks)


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of both packages by its dotted name."""
    found = {}
    for package in ("denoise", "pipelines"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports at its top, in its functions, or for type checkers."""
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
    """Modules that each module imports."""
    found = {}
    for module, path in modules().items():
        targets = {name if name in modules() else name.rpartition(".")[0] for name in imports(path)}
        found[module] = (targets & set(modules())) - {module}
    return found


def test_the_documented_layers_are_these() -> None:
    document = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    layers = "\n".join("  ".join(prefixes) for prefixes in LAYERS)
    assert f"```\n{layers}\n```\n" in document


@pytest.mark.parametrize("module", sorted(edges()))
def test_imports_go_downwards(module: str) -> None:
    upwards = {target for target in edges()[module] if layer(target) < layer(module)}
    assert not upwards, f"{module} imports from above: {sorted(upwards)}"


def test_no_module_imports_itself_in_a_circle() -> None:
    tuple(graphlib.TopologicalSorter(edges()).static_order())


def test_the_program_has_few_rooms_on_few_levels() -> None:
    """Rooms are the folders and modules that stand directly in `pipelines/`."""

    def room(module: str) -> str:
        return ".".join(module.split(".")[:2])

    rooms: dict[str, set[str]] = {}
    for module, targets in edges().items():
        if module.startswith("pipelines."):
            inside = {room(target) for target in targets if target.startswith("pipelines.")}
            rooms.setdefault(room(module), set()).update(inside - {room(module)})
    levels: dict[str, int] = {}
    for name in graphlib.TopologicalSorter(rooms).static_order():
        levels[name] = 1 + max((levels[target] for target in rooms[name]), default=0)
    assert len(rooms) <= 12
    assert max(levels.values()) <= 6, levels


def test_package_faces_define_nothing() -> None:
    """Docstring, imports and `__all__`; the top face also has the version and its lazy names."""
    for module, path in modules().items():
        if path.name == "__init__.py" and module != "denoise":
            for node in ast.parse(path.read_text("utf-8")).body:
                names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
                docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                imported = isinstance(node, ast.Import | ast.ImportFrom)
                assert docstring or imported or names == ["__all__"], f"{path}: line {node.lineno}"


def test_the_library_does_without_the_libraries_of_the_program() -> None:
    for module, path in modules().items():
        if module.startswith("denoise"):
            assert not {name.split(".")[0] for name in imports(path)} & {"pipelines", "click", "tqdm"}, module


def test_io_does_not_import_torch() -> None:
    for module, path in modules().items():
        if module.startswith(("denoise.io", "denoise.signal", "denoise.options")):
            assert not any(name.split(".")[0] == "torch" for name in imports(path)), module


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running `code`."""
    script = f"{code}\nimport sys\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import denoise; denoise.__version__, denoise.DenoiseError",
        "from denoise.infer.catalogue import catalogue; from denoise.models.table import MODELS",
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
