"""The documents are correct: commands parse and run, examples work, tables and trees are complete."""

import ast
import math
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner

from denoise.corruptions import CORRUPTIONS
from denoise.metrics import reported
from denoise.models.table import MODELS
from denoise.signal import MODALITIES
from denoise.training.recipe import names as recipe_names
from pipelines.cli.group import COMMANDS, cli

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "data" / "samples").glob("*.md")]
)


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of a document in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(document), re.MULTILINE | re.DOTALL)


def commands(document: str) -> list[list[str]]:
    """Commands after a `$` in its console blocks, as words."""
    lines = "".join(blocks(document, "console")).splitlines()
    return [shlex.split(line[2:]) for line in lines if line.startswith("$ ")]


def all_commands(group: click.Group, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    """Every command and subcommand, by its words."""
    found: dict[tuple[str, ...], click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found[*path, name] = command
        if isinstance(command, click.Group):
            found |= all_commands(command, (*path, name))
    return found


def parse(words: list[str]) -> None:
    """Check the words of a `denoise` command against its options, without running it."""
    command: click.Command = cli
    context: click.Context | None = None
    rest = words[1:]
    while isinstance(command, click.Group) and rest:
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, f"no command {rest[0]}"
        command, rest = found, rest[1:]
        context = command.make_context(command.name, list(rest), parent=context)
    assert context is not None


EVERY_COMMAND = all_commands(cli)
DENOISE_LINES = [
    words for path in DOCUMENTS for words in commands(str(path.relative_to(ROOT))) if words[0] == "denoise"
]


@pytest.mark.parametrize("path", EVERY_COMMAND, ids=" ".join)
def test_every_command_has_help_with_an_example_that_parses(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*path, "--help"], prog_name="denoise")
    assert result.exit_code == 0
    _, _, example = result.output.partition("Example:\n")
    line = example.strip().splitlines()[0]
    assert line.startswith(f"denoise {path[0]}"), result.output
    parse(shlex.split(line))
    for parameter in EVERY_COMMAND[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} has no help"


def test_every_command_is_in_the_documents() -> None:
    used = {words[1] for words in DENOISE_LINES}
    assert used == set(COMMANDS)


@pytest.mark.parametrize("words", DENOISE_LINES, ids=" ".join)
def test_commands_of_the_documents_parse(words: list[str]) -> None:
    parse(words)


def test_commands_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "data" / "samples", tmp_path / "data" / "samples")
    monkeypatch.chdir(tmp_path)
    for words in commands("README.md"):
        if words[0] == "denoise":
            result = CliRunner().invoke(cli, words[1:], prog_name="denoise")
            assert result.exit_code == 0, f"{' '.join(words)}\n{result.output}"
    assert (tmp_path / "coffee.png").is_file()
    assert (tmp_path / "cleaned" / "recordings" / "reading_16k.wav").is_file()


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^(\w+):", text_of("Makefile"), re.MULTILINE))
    named = {words[1] for words in commands("README.md") if words[0] == "make"}
    assert named == {"demo", "test"}
    assert named <= targets


PYTHON_DOCUMENTS = [
    "README.md",
    "docs/anomalies.md",
    "docs/autoencoders.md",
    "docs/models.md",
    "docs/noise.md",
]


@pytest.mark.parametrize("document", PYTHON_DOCUMENTS)
def test_python_examples_run(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    examples = blocks(document, "python")
    assert examples
    for example in examples:
        exec(compile(example, document, "exec"), {})


def test_the_corruption_of_contributing_works(monkeypatch: pytest.MonkeyPatch) -> None:
    from denoise.corruptions import base, image, levels, spec

    definition, test = blocks("CONTRIBUTING.md", "python")
    row = re.search(r'^    "(\w+)": "([\w.:]+)",$', text_of("CONTRIBUTING.md"), re.MULTILINE)
    assert row
    names = vars(base) | vars(levels) | vars(image)
    exec(compile(definition, "CONTRIBUTING.md", "exec"), names)
    monkeypatch.setattr(image, "Stripes", names["Stripes"], raising=False)
    monkeypatch.setattr(spec, "CORRUPTIONS", {**CORRUPTIONS, row[1]: row[2]})
    space: dict[str, Any] = {"parse": spec.parse, "torch": torch, "pytest": pytest}
    exec(compile(test, "CONTRIBUTING.md", "exec"), space)
    space["test_stripes_have_their_deviation"]()
    assert str(spec.parse("stripes:sigma=10")) == "stripes:sigma=10"
    assert math.isclose(names["Stripes"]().sigma, 5)


def test_the_recipe_of_the_training_page_loads(tmp_path: Path) -> None:
    from denoise.training import recipe

    (tmp_path / "scans.toml").write_text(blocks("docs/training.md", "toml")[0], encoding="utf-8")
    assert recipe.load(tmp_path / "scans.toml").model.config["channels"] == 1
    page = text_of("docs/training.md")
    assert [name for name in recipe_names() if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("document", "table"),
    [("docs/noise.md", CORRUPTIONS), ("docs/models.md", MODELS)],
    ids=["noise", "models"],
)
def test_tables_list_every_row_and_no_other(document: str, table: dict[str, object]) -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \|", text_of(document), re.MULTILINE)
    assert set(table) <= set(listed)
    assert set(listed) - set(table) <= set(recipe_names())


def test_noise_fields_are_those_of_the_code() -> None:
    from denoise.registry import lookup

    lines = dict(
        re.findall(r"^\| `([a-z-]+)` \| [^|]+ \| ([^|]+) \|", text_of("docs/noise.md"), re.MULTILINE)
    )
    for name in CORRUPTIONS:
        fields = lookup(CORRUPTIONS, name, "corruption").text_fields
        assert all(f"`{field}`" in lines[name] for field in fields), name


@pytest.mark.parametrize("modality", MODALITIES)
def test_metrics_of_reports_are_those_of_the_code(modality: str) -> None:
    (names,) = re.findall(rf"^\| {modality} \| (.+) \|$", text_of("docs/json.md"), re.MULTILINE)
    assert names == ", ".join(f"`{name}`" for name in reported(modality))


def test_the_tree_of_contributing_exists() -> None:
    folders: list[str] = []
    tree = text_of("CONTRIBUTING.md").partition("## Tree\n\n```\n")[2].partition("```")[0]
    for line in tree.splitlines():
        entry, comment = line.split(maxsplit=1)
        depth = (len(line) - len(line.lstrip())) // 2
        folders = [*folders[:depth], entry.rstrip("/")]
        assert comment
        assert (ROOT / "/".join(folders)).exists(), entry


def module_tree() -> str:
    """Both packages as a tree, each module with the first line of its docstring."""
    lines = []
    for package in ("denoise", "pipelines"):
        for path in [ROOT / package, *sorted((ROOT / package).rglob("*"))]:
            module = path / "__init__.py" if path.is_dir() else path
            if module.suffix != ".py" or not module.is_file() or path.name == "__init__.py":
                continue
            docstring = (ast.get_docstring(ast.parse(module.read_text("utf-8"))) or "").splitlines()[0]
            indent = "  " * (len(path.relative_to(ROOT).parts) - 1)
            lines.append(f"{indent + path.name + '/' * path.is_dir():<28} {docstring}")
    return "\n".join(lines) + "\n"


def test_the_tree_of_the_architecture_is_the_code() -> None:
    text = text_of("docs/architecture.md")
    listed = text[text.rindex("\n```\ndenoise/") :].removeprefix("\n```\n").removesuffix("```\n").splitlines()
    expected = module_tree().splitlines()
    missing = "\n".join(line for line in expected if line not in listed)
    surplus = "\n".join(line for line in listed if line not in expected)
    assert listed == expected, f"docs/architecture.md lacks\n{missing}\nand has in excess\n{surplus}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target
