"""The plan: inputs, outputs, and refusals before work starts."""

import os
import re
from pathlib import Path

import pytest

from denoise.errors import UsageError
from pipelines.batch import discover, store
from pipelines.batch.naming import Naming
from pipelines.report import check_report


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def keys(plan: discover.Plan) -> list[str]:
    return [item.key for item in plan.items]


def test_the_tree_is_mirrored_in_name_order(tmp_path: Path) -> None:
    make(tmp_path / "in", "b.wav", "a é.png", "sub/deep er/c.csv")
    plan = discover.plan([tmp_path / "in"], tmp_path / "out")
    assert keys(plan) == ["a é.png", "b.wav", "sub/deep er/c.csv"]
    assert [item.destination for item in plan.items] == [tmp_path / "out" / key for key in keys(plan)]
    assert [item.modality for item in plan.items] == ["image", "audio", "sensor"]
    assert plan.modalities == ("image", "audio", "sensor")
    assert not (tmp_path / "out").exists()


def test_without_recursion_folders_below_are_left_alone(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.png", "sub/b.png")
    assert keys(discover.plan([tmp_path / "in"], tmp_path / "out", recursive=False)) == ["a.png"]


def test_hidden_files_and_manifests_are_passed_over_and_other_kinds_listed(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.png", ".b.png", ".git/c.png", store.MANIFEST_NAME, "notes.txt", "README")
    plan = discover.plan([tmp_path / "in"], tmp_path / "out")
    assert keys(plan) == ["a.png"]
    assert [problem.path.name for problem in plan.ignored] == ["README", "notes.txt"]
    assert not plan.problems


def test_a_known_kind_that_is_not_read_has_failed_wherever_it_is(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.png", "book.ods", "run.vhdr", "letter.pdf")
    (tmp_path / "in" / "layers.dat").write_bytes(b"8BPS\0\1" + bytes(40))
    plan = discover.plan([tmp_path / "in"], tmp_path / "out")
    assert [problem.path.name for problem in plan.problems] == ["layers.dat", "run.vhdr"]
    assert [problem.path.name for problem in plan.ignored] == ["book.ods", "letter.pdf"]
    assert "save it as PNG" in plan.problems[0].error


def test_another_kind_is_a_problem_when_it_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "notes.txt")
    plan = discover.plan([tmp_path / "a.png", tmp_path / "notes.txt"], tmp_path / "out")
    assert keys(plan) == ["a.png"]
    (problem,) = plan.problems
    assert str(tmp_path / "notes.txt") in problem.error
    assert ".txt" in problem.error


def test_declined_modalities_are_ignored_in_folders_and_problems_when_named(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.png", "b.wav")
    folder, file = tmp_path / "in", tmp_path / "in" / "a.png"

    def reject_reason(modality: str) -> str | None:
        return "is not sound" if modality == "image" else None

    walked = discover.plan([folder], tmp_path / "out", reject_reason=reject_reason)
    assert (keys(walked), [p.path for p in walked.ignored]) == (["b.wav"], [file])
    named = discover.plan([file, folder / "b.wav"], tmp_path / "out", reject_reason=reject_reason)
    assert (keys(named), [p.path for p in named.problems]) == (["b.wav"], [file])


@pytest.mark.parametrize("output", ["in", "in/out", "in/sub/../out", "."])
def test_output_and_input_folders_must_lie_side_by_side(tmp_path: Path, output: str) -> None:
    make(tmp_path / "in", "a.png", "sub/b.png")
    with pytest.raises(UsageError, match="input"):
        discover.plan([tmp_path / "in"], tmp_path / output)


def test_an_output_inside_its_input_is_seen_through_a_link(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(UsageError, match="inside the input"):
        discover.plan([tmp_path / "in"], tmp_path / "link" / "out")


def test_inputs_with_one_output_are_problems_with_both_names(tmp_path: Path) -> None:
    make(tmp_path, "a/x.png", "b/x.png", "c/x.png", "b/y.png")
    plan = discover.plan([tmp_path / "a", tmp_path / "b", tmp_path / "c"], tmp_path / "out")
    assert keys(plan) == ["y.png"]
    assert [problem.path.parent.name for problem in plan.problems] == ["a", "b", "c"]
    for problem, other in zip(plan.problems, "baa", strict=True):
        assert str(problem.path) in problem.error
        assert str(tmp_path / other / "x.png") in problem.error


@pytest.mark.parametrize("output", ["file", "file/out", "file/x.png", "file/below/x.png"])
def test_an_output_below_a_file_is_refused(tmp_path: Path, output: str) -> None:
    make(tmp_path, "in/a.png", "in/b.png", "file")
    inputs = [tmp_path / "in" / "a.png"] if output.endswith(".png") else [tmp_path / "in"]
    with pytest.raises(UsageError, match="file: is a file; expected a folder"):
        discover.plan(inputs, tmp_path / output)
    with pytest.raises(UsageError, match="file: is a file; expected a folder"):
        check_report(tmp_path / "file" / "x.json", "JSON")


def test_one_file_named_twice_is_one_item(tmp_path: Path) -> None:
    make(tmp_path / "in", "x.png")
    plan = discover.plan([tmp_path / "in", tmp_path / "in" / "x.png"], tmp_path / "out")
    assert keys(plan) == ["x.png"]


@pytest.mark.parametrize("folds", [False, True])
def test_names_that_differ_by_case_collide_where_the_disk_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folds: bool
) -> None:
    make(tmp_path, "a/x.png", "b/X.PNG")
    monkeypatch.setattr(store, "_folds_case", lambda _: folds)
    inputs = [tmp_path / "a", tmp_path / "b"]
    if folds:
        plan = discover.plan(inputs, tmp_path / "out")
        assert not plan.items
        assert len(plan.problems) == 2
    else:
        assert keys(discover.plan(inputs, tmp_path / "out")) == ["x.png", "X.PNG"]


def test_the_file_system_is_asked_whether_it_folds_case(tmp_path: Path) -> None:
    (tmp_path / "Folder").mkdir()
    folds = (tmp_path / "fOLDER").exists()
    assert store._folds_case(tmp_path / "Folder" / "not" / "there") == folds


def test_an_output_never_replaces_an_input(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png")
    for output in (tmp_path, tmp_path / "a.png"):
        with pytest.raises(UsageError, match="replace an input"):
            discover.plan([tmp_path / "a.png"], output)


def test_one_file_goes_into_a_folder_or_to_a_name(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    (tmp_path / "out.d").mkdir()
    for output, expected in (("out", "out/a.png"), ("out.d", "out.d/a.png"), ("x/b.tif", "x/b.tif")):
        (item,) = discover.plan([tmp_path / "a.png"], tmp_path / output).items
        assert item.destination == tmp_path / expected


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("b.wav", "a name for audio"),
        (
            "b.pgn",
            r"\.pgn .* is written: a slip \(write \.png\), .*\(write b\.pgn\.png\), .*\(make it first\)\?",
        ),
        ("v1.2", r"\.2 .* a slip \(write \.png\), a name with a dot \(write v1\.2\.png\), or a folder"),
    ],
)
def test_an_output_name_must_fit_the_kind_of_file(tmp_path: Path, name: str, found: str) -> None:
    make(tmp_path, "a.png")
    with pytest.raises(UsageError, match=found):
        discover.plan([tmp_path / "a.png"], tmp_path / name)


def test_the_file_whose_name_it_is_gets_the_result(tmp_path: Path) -> None:
    """A GIF becomes a WebP, and must not keep a WebP of that name from being written."""
    make(tmp_path / "in", "a.webp", "b.png")
    (tmp_path / "in" / "a.gif").write_bytes(b"GIF89a" + bytes(20))
    plan = discover.plan([tmp_path / "in"], tmp_path / "out")
    assert [item.source.name for item in plan.items] == ["a.webp", "b.png"]
    (problem,) = plan.problems
    assert problem.path.name == "a.gif"
    assert "would be written there; rename one" in problem.error
    both = discover.plan([tmp_path / "in"], tmp_path / "out", naming=Naming("{stem}_x{ext}"))
    assert {problem.path.name for problem in both.problems} == {"a.gif", "a.webp"}


def test_link_loops_and_dead_links_are_listed_and_the_rest_is_found(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.png", "sub/b.png")
    (tmp_path / "in" / "sub" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "self").symlink_to("self")
    (tmp_path / "in" / "dead.png").symlink_to("nowhere.png")
    plan = discover.plan([tmp_path / "in"], tmp_path / "out")
    assert keys(plan) == ["a.png", "sub/b.png"]
    assert {problem.path.name for problem in plan.problems} == {"loop", "self", "dead.png"}
    assert all(str(problem.path) in problem.error for problem in plan.problems)


def test_linked_files_and_folders_are_followed(tmp_path: Path) -> None:
    make(tmp_path, "in/a.png", "other/b.png")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "other")
    (tmp_path / "in" / "c.png").symlink_to(tmp_path / "other" / "b.png")
    assert keys(discover.plan([tmp_path / "in"], tmp_path / "out")) == ["a.png", "c.png", "more/b.png"]


def test_a_folder_with_the_name_of_a_file_is_a_problem_until_it_is_named(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.png", "shots.png/b.png")
    plan = discover.plan([tmp_path / "in"], tmp_path / "out")
    assert keys(plan) == ["a.png"]
    assert "a folder, a .png file was expected" in plan.problems[0].error
    assert keys(discover.plan([tmp_path / "in" / "shots.png"], tmp_path / "out")) == ["b.png"]


def test_a_folder_that_cannot_be_read_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "in", "a.png", "secret/b.png")
    scandir = os.scandir

    def guarded(folder: Path) -> object:
        if Path(folder).name == "secret":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    plan = discover.plan([tmp_path / "in"], tmp_path / "out")
    assert keys(plan) == ["a.png"]
    assert (
        plan.problems[0].error
        == f"{tmp_path / 'in' / 'secret'}: the folder cannot be read: Permission denied"
    )


def test_inputs_must_be_there_and_hold_something(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        discover.plan([tmp_path / "missing"], tmp_path / "out")
    make(tmp_path / "in", "notes.txt")
    with pytest.raises(UsageError, match="nothing to do"):
        discover.plan([tmp_path / "in"], tmp_path / "out")


def test_references_inside_an_input_are_no_input(tmp_path: Path) -> None:
    for name in ("in/a.png", "in/truth/a.png", "in/other/truth/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = discover.plan([tmp_path / "in"], tmp_path / "out", exclude_dir=tmp_path / "in" / "truth")
    assert [item.key for item in found.items] == ["a.png", "other/truth/a.png"]


def test_what_is_no_regular_file_is_never_opened(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.png")
    os.mkfifo(tmp_path / "in" / "b.png")  # opening it would block for ever
    found = discover.plan([tmp_path / "in"], tmp_path / "out")
    assert keys(found) == ["a.png"]
    assert [problem.error for problem in found.problems] == [
        f"{tmp_path / 'in' / 'b.png'}: no regular file; a file was expected"
    ]


def test_first_bytes_tell_more_than_names(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.jpg", "b.bin", "c.txt", "photo.raf")
    (tmp_path / "in" / "a.jpg").write_bytes(b"fLaC" + bytes(9))
    (tmp_path / "in" / "b.bin").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "in" / "photo.raf").write_bytes(b"FUJIFILMCCD-RAW 0201\0")
    found = discover.plan([tmp_path / "in"], tmp_path / "out")
    assert {item.key: item.modality for item in found.items} == {
        "a.jpg": "audio",
        "b.bin": "image",
        "photo.tif": "image",  # of a format that is only read
    }
    assert [item.size_bytes for item in found.items] == [13, 8, 21]
    make(tmp_path / "in", "photo.tif")
    found = discover.plan([tmp_path / "in"], tmp_path / "out")
    assert keys(found) == ["a.jpg", "b.bin", "photo.tif"]
    for problem in found.problems:
        assert re.search(r"out/photo.tif: both .*photo.raf and .*photo.tif", problem.error)


def test_a_folder_that_is_named_and_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "in", "a.png")

    def scandir(path: object) -> None:
        raise PermissionError(13, os.strerror(13), path)

    monkeypatch.setattr(os, "scandir", scandir)  # permissions do not stop root
    with pytest.raises(UsageError, match="in: the folder cannot be read: Permission denied"):
        discover.plan([tmp_path / "in"], tmp_path / "out")
