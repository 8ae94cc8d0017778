"""Exit codes, and the use of the output streams."""

import contextlib
import errno
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipelines.batch import run as batch
from pipelines.batch.lock import exclusive
from pipelines.cli import settings
from pipelines.cli.group import Terminated, cli

Run = Callable[..., Any]


def clean(media: Path, tmp_path: Path, *options: object) -> tuple[object, ...]:
    return ("clean", media, "-o", tmp_path / "out", "--model", "none", *options)


def test_the_plan_has_costs_and_json_has_all_of_it(media: Path, tmp_path: Path, denoise: Run) -> None:
    result = denoise(*clean(media, tmp_path, "--dry-run", "--json", tmp_path / "plan.json"))
    last = result.stdout.splitlines()[-1]
    assert "to read, an estimated" in last
    assert last.endswith("are free; with the start and the opening of files an estimated 2 s")
    plan = json.loads((tmp_path / "plan.json").read_text())
    sizes = {str(path): path.stat().st_size for path in media.rglob("*.*") if path.is_file()}
    assert {row["source"]: row["bytes_in"] for row in plan["rows"]} == sizes
    assert plan["plan"]["bytes_in"] == plan["plan"]["estimated_bytes_out"] == sum(sizes.values())
    assert plan["plan"]["estimated_seconds"] == pytest.approx(
        sum(row["estimated_seconds"] for row in plan["rows"]), abs=0.01
    )
    assert plan["plan"]["free_bytes"] > 0


def test_codes_say_who_is_at_fault(
    media: Path, tmp_path: Path, denoise: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert denoise(*clean(media, tmp_path)).exit_code == 0
    (media / "bad.png").write_bytes(b"")
    assert denoise(*clean(media, tmp_path)).exit_code == 1
    assert denoise(*clean(media, media)).exit_code == 2
    with exclusive(tmp_path / "out"):
        busy = denoise(*clean(media, tmp_path))
        assert busy.exit_code == 2
        assert "is writing there" in busy.stderr
    (tmp_path / "file").write_text("x")
    stopped = denoise("clean", media, "-o", tmp_path / "file" / "out", "--model", "none")
    assert stopped.exit_code == 2
    assert "is a file; expected a folder to write to" in stopped.stderr
    for error, code in ((KeyboardInterrupt, 130), (Terminated, 143)):

        def interrupt(*_: object, error: type[BaseException] = error) -> None:
            raise error

        monkeypatch.setattr(batch, "run", interrupt)
        assert denoise(*clean(media, tmp_path)).exit_code == code


def test_quiet_says_what_failed_and_no_more(media: Path, tmp_path: Path, denoise: Run) -> None:
    (media / "bad.png").write_bytes(b"")
    result = denoise(*clean(media, tmp_path, "--quiet"))
    assert result.stdout == ""
    assert result.stderr == f"{media / 'bad.png'}: is empty (0 bytes); expected an image\n"
    (media / "bad.png").unlink()
    assert denoise(*clean(media, tmp_path, "-q", "--overwrite")).output == ""


def test_verbose_says_more_on_stderr(media: Path, tmp_path: Path, denoise: Run) -> None:
    plain = denoise(*clean(media, tmp_path))
    verbose = denoise(*clean(media, tmp_path, "-v", "--overwrite"))
    assert len(verbose.stderr.splitlines()) >= len(plain.stderr.splitlines()) == 4
    assert denoise(*clean(media, tmp_path, "-v", "-q")).exit_code == 2


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("2GB", 2 * 10**9), ("500M", 5 * 10**8), ("1.5 GiB", 3 << 29), ("123", 123), ("10kb", 10_000)],
)
def test_sizes_are_understood(
    media: Path, tmp_path: Path, denoise: Run, monkeypatch: pytest.MonkeyPatch, text: str, size_bytes: int
) -> None:
    jobs: list[Any] = []

    def run(job: Any, _: object) -> batch.Result:
        jobs.append(job)
        return batch.Result((), ())

    monkeypatch.setattr(batch, "run", run)
    assert denoise(*clean(media, tmp_path, "--memory", text)).exit_code == 0
    assert jobs[0].memory == size_bytes
    for wrong in ("much", "-1GB", "0"):
        assert denoise(*clean(media, tmp_path, f"--memory={wrong}")).exit_code == 2


def test_progress_has_no_colours() -> None:
    script = """
from pipelines import report
from pipelines.batch.manifest import Entry
with report.progress(2) as on_entry:
    on_entry(Entry("a", "b", "ok"))
    on_entry(Entry("c", None, "failed", error="why"))
"""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TERM": "xterm",
    }
    subprocess.run([sys.executable, "-c", script], check=True, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while chunk := os.read(ours, 100_000):
            shown += chunk
    os.close(ours)
    assert b"2/2" in shown
    assert b"\x1b[3" not in shown
    assert b"\x1b[9" not in shown


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("clean", "."), "'-o' / '--output'"),
        (("corrupt", ".", "--noise", "gaussian:sigma=5"), "'-o' / '--output'"),
        (("embed", "x.png"), "'-o' / '--output'"),
    ],
)
def test_a_missing_option_is_named_with_the_usage(
    arguments: tuple[str, ...], option: str, denoise: Run
) -> None:
    result = denoise(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")
    assert f"Missing option {option}" in result.stderr


def test_two_noises_or_lists_are_refused_where_one_would_be_dropped(denoise: Run, tmp_path: Path) -> None:
    noises = ("--noise", "gaussian:sigma=5", "--noise", "jpeg")
    result = denoise("benchmark", tmp_path, *noises)
    assert result.exit_code == 2
    assert "--noise is given 2 times, but takes one SPEC" in result.stderr
    twice = denoise("benchmark", tmp_path, "--models", "photo", "--models", "none")
    assert "--models is given 2 times, but takes one A,B,.." in twice.stderr
    assert "is given" not in denoise("corrupt", tmp_path, "-o", tmp_path / "out", *noises).stderr


# ---- nothing but sentences ---------------------------------------------------------------------------------


def process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_escape_sequences_in_names_do_not_reach_the_terminal(tmp_path: Path, denoise: Run) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    evil = "a\x1b[2Jb\x9bc\u202ed\nFailed: 0"
    for suffix in (".png", ".csv"):
        (folder / f"{evil}{suffix}").write_bytes(b"")
    for arguments in (
        ("clean", folder, "-o", tmp_path / "out", "--model", "median", "--dry-run"),
        ("info", folder),
        ("clean", folder / f"{evil}.x", "-o", tmp_path / "out"),
        ("score", folder, folder),
    ):
        result = denoise(*arguments)
        shown = result.stdout + result.stderr
        assert "a?[2Jb?c?d?Failed: 0" in shown, arguments
        assert all(letter.isprintable() or letter == "\n" for letter in shown), arguments


def test_an_unexpected_error_is_a_sentence(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise LookupError("a defect\nwith lines")

    monkeypatch.setattr("pipelines.inspect.info.describe", fail)
    result = CliRunner().invoke(cli, ["info", str(media)])
    assert result.exit_code == 1
    assert result.stderr == "Error: unexpected LookupError: a defect; DENOISE_TRACEBACK=1 shows where\n"


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            "clean {}",
            "clean {} -o out",
            "clean a.png -o {}",
            "clean a.png -o out --json {}",
            "info a.png --json {}",
        ),
        *("score {} a.png", "verify {}", "restore {}", "watch {} -o out", "clean {} -o -"),
    ],
)
def test_a_name_that_is_too_long_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, denoise: Run, arguments: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    refused = denoise(*arguments.format("x" * 300).split())
    assert refused.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_list_of_paths_is_text(tmp_path: Path, denoise: Run) -> None:
    listed = tmp_path / "a.png"
    listed.write_bytes(b"\x89PNG\r\n\x1a\n\0")
    refused = denoise("clean", "--files-from", listed, "-o", tmp_path / "out")
    assert (refused.exit_code, "holds binary data" in refused.stderr) == (2, True)


def test_streams_that_are_full_closed_or_narrow_end_in_a_code(tmp_path: Path) -> None:
    name = tmp_path / "ü.csv"
    name.write_text("time,x\n0,1\n")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        command = [sys.executable, "-m", "pipelines.cli", "info", str(name)]
        stopped = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (stopped.returncode, "Traceback" in stopped.stderr) == (3, False)
    assert stopped.stderr.startswith("Error: standard output: ")
    shell = f"exec {sys.executable} -m pipelines.cli info {name} 2>&- >&-"
    assert subprocess.run(["sh", "-c", shell], check=False).returncode == 0
    shell = f"exec {sys.executable} -m pipelines.cli clean - -o - <&-"
    closed = subprocess.run(["sh", "-c", shell], check=False, capture_output=True, text=True)
    assert (closed.returncode, closed.stdout) == (1, "")
    assert closed.stderr == "Error: standard input: empty, expected a WAV\n"
    shell = f"exec {sys.executable} -m pipelines.cli clean {name} -o - >&-"
    nowhere = subprocess.run(["sh", "-c", shell], check=False, capture_output=True, text=True)
    assert (nowhere.returncode, "standard output is closed" in nowhere.stderr) == (2, True)
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    narrow = process("info", name, env=ascii_only)
    assert (narrow.returncode, narrow.stderr) == (0, "")
    assert "ü.csv" in narrow.stdout or "\\xfc.csv" in narrow.stdout


def test_a_working_folder_that_may_not_be_read_has_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    stat = os.stat

    def forbid(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if str(path) == "denoise.toml":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", forbid)
    assert settings.path() is None


def test_no_file_gets_the_number_of_a_closed_stream_and_a_lost_folder_is_said(tmp_path: Path) -> None:
    """What a library prints on a closed stream must not go into the file that has its number."""
    code = "import os, pipelines.cli.start as s; s._open_standard_streams(); os._exit(os.open('new', 65))"
    shell = f'cd {tmp_path} && exec {sys.executable} -c "{code}" <&- >&- 2>&-'
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run(["sh", "-c", shell], check=False, env=environment).returncode > 2
    gone = tmp_path / "gone"
    shell = f"mkdir {gone} && cd {gone} && rmdir {gone} && exec {sys.executable} -m pipelines.cli info a"
    lost = subprocess.run(["sh", "-c", shell], check=False, env=environment, capture_output=True, text=True)
    assert lost.returncode == 2
    assert lost.stderr.startswith("Error: the current folder: ")


@pytest.mark.parametrize(
    ("module", "number", "code"),
    [("click", signal.SIGINT, 130), ("torch", signal.SIGINT, 130), ("torch", signal.SIGTERM, 143)],
)
def test_a_signal_during_an_import_is_an_exit_code(
    media: Path, tmp_path: Path, number: signal.Signals, code: int, module: str
) -> None:
    """The first import of a module sends the signal to its own process."""
    script = f"""
import os, sys
from importlib.abc import MetaPathFinder
class Signals(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {int(number)})
from pipelines.cli import main
sys.meta_path.insert(0, Signals())
sys.argv = ["denoise", "clean", {str(media)!r}, "-o", {str(tmp_path / "out")!r}, "--workers", "1"]
main()
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
