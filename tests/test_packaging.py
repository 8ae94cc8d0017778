"""What is installed is complete, and versions agree."""

import re
import tomllib
import zlib
from pathlib import Path

import denoise

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_every_file_that_a_package_reads_is_installed() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    for package in ("denoise", "pipelines"):
        root = ROOT / package
        installed = {path for pattern in patterns[package] for path in root.glob(pattern)}
        data = {path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
        assert sorted(path for path in data - installed if path.suffix != ".py") == []


def test_the_wheel_stays_below_25_megabytes() -> None:
    files = [path for package in ("denoise", "pipelines") for path in (ROOT / package).rglob("*")]
    sizes = [
        len(zlib.compress(path.read_bytes()))
        for path in files
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert sum(sizes) < 25e6


def test_extras_named_in_messages_and_documents_exist() -> None:
    extras = set(PROJECT["project"]["optional-dependencies"])
    places = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "Dockerfile"]
    places += [path for package in ("denoise", "pipelines") for path in (ROOT / package).rglob("*.py")]
    named = set()
    for path in places:
        for found in re.findall(r"(?:denoise-pipelines|/source)\[([a-z,]+)\]", path.read_text("utf-8")):
            named |= set(found.split(","))
    assert named
    assert named <= extras


def test_the_citation_has_the_version() -> None:
    assert f"\nversion: {denoise.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_continuous_integration_runs_what_a_person_runs() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8")
    assert set(re.findall(r"run: make (\w+)", workflow)) == {"demo", "test", "dist"} <= targets


def test_every_page_of_the_documents_is_in_the_site() -> None:
    docs = ROOT / "docs"
    named = set(re.findall(r": ([a-z/]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    assert named == {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}


def test_a_test_run_builds_the_pages_strictly() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert re.search(r"^test: .*\bsite\b", makefile, re.MULTILINE)
    assert "mkdocs build --strict" in makefile
