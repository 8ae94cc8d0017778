"""A small batch to disturb, and checks of the four promises; as a script, a process that may be killed.

The job reverses bytes: it reads and writes like every job, and needs no torch, so that a hundred of
its processes can die in a few seconds.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from denoise.errors import DenoiseError
from denoise.io.atomic import replacing
from pipelines.batch import run as batch
from pipelines.batch.discover import Item
from pipelines.batch.jobs import Job, Outcome
from pipelines.batch.manifest import PENDING_NAME
from pipelines.batch.store import MANIFEST_NAME, digest


@dataclass(frozen=True, kw_only=True)
class Turn(Job):
    """Reverse the bytes of a file, repeated `copies` times; another number is another setting."""

    copies: int = 1

    def reject_reason(self, modality: str) -> str | None:  # noqa: ARG002
        return None

    def settings(self, modality: str) -> dict[str, Any]:  # noqa: ARG002
        return {"copies": self.copies}

    def execute(self, item: Item) -> Outcome:
        content = item.source.read_bytes()[::-1]
        with replacing(item.destination) as partial, partial.open("wb") as file:
            for _ in range(self.copies):
                file.write(content)
        return Outcome("turn")


class Scene:
    """A folder of inputs with its expected outputs: the old ones, and those of an undisturbed run.

    Args:
        root: An empty folder.
        job: Makes the job, for inputs and an output folder.
        earlier: The same of an earlier run, which had done the first input; None for a fresh start.
        fill: Writes the inputs.
    """

    def __init__(
        self,
        root: Path,
        job: Callable[[Path, Path], Job],
        earlier: Callable[[Path, Path], Job] | None,
        fill: Callable[[Path], None],
    ) -> None:
        self._root, self._job = root, job
        self.source, self.out, self._start = root / "in", root / "out", root / "start"
        fill(self.source)
        self._inputs = contents(self.source)
        if earlier:
            batch.run(earlier(self.source / min(self._inputs), self._start))
        self._old = contents(self._start)
        batch.run(job(self.source, root / "undisturbed"))
        self._new = contents(root / "undisturbed")

    def reset(self) -> None:
        """Restore the initial state."""
        shutil.rmtree(self.out, ignore_errors=True)
        if self._start.exists():
            shutil.copytree(self._start, self.out)

    def run(self) -> batch.Result:
        return batch.run(self._job(self.source, self.out))

    def broken_promises(self) -> list[str]:
        """List the broken promises after a disturbance, and after another run."""
        found = list(self._wrong_now())
        result = self.run()
        if result.stopped or result.counts["failed"]:
            found.append(f"the second run fails: {result.stopped} {[e.error for e in result.entries]}")
        if contents(self.out, hidden=True) != self._new:
            found.append(f"the second run ends with {sorted(contents(self.out, hidden=True))}")
        if set(self.run().counts) != {"skipped"}:
            found.append("the third run finds something to do")
        return found

    def _wrong_now(self) -> Iterator[str]:
        if contents(self.source, hidden=True) != self._inputs:
            yield "an input has changed"
        there = contents(self.out)
        for name, content in there.items():
            if content not in (self._old.get(name), self._new.get(name)):
                yield f"{name} is neither the old file nor a whole new one"
        claims = {json.loads(line) for line in lines(self.out / PENDING_NAME)}
        proof: dict[str, str] = {}  # the last good row counts
        for line in lines(self.out / MANIFEST_NAME):
            with suppress(ValueError):  # a torn row proves nothing
                row = json.loads(line)
                if row["status"] == "ok":
                    proof[row["key"]] = row["output_digest"]
        for key in proof.keys() - claims:
            output = self.out / key
            if not output.exists() or digest(output) != proof[key]:
                yield f"the manifest claims {key}"


def contents(folder: Path, *, hidden: bool = False) -> dict[str, bytes]:
    """List the files below a folder except the manifest; with `hidden`, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST_NAME and (hidden or not path.name.startswith("."))
    }


def lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines() if path.exists() else []


def fill_with_bytes(folder: Path, *, files: int = 3, size_bytes: int = 300) -> None:
    """Files that are images by name only."""
    (folder / "süb").mkdir(parents=True)
    for number in range(files):
        name = f"{number} ö.png" if number < files - 1 else f"süb/{number}.png"
        (folder / name).write_bytes(bytes([number, 1, 2]) * (size_bytes // 3))


def turning(root: Path) -> Scene:
    """The scene of most tests: the first output exists, made with other settings."""
    return Scene(
        root,
        lambda source, out: Turn(inputs=(source,), output=out, copies=2),
        lambda source, out: Turn(inputs=(source,), output=out, copies=1),
        fill_with_bytes,
    )


# ---- processes that are stopped at a line of the program ---------------------------------------------------


@contextmanager
def stopping_at(line: int, number: int) -> Iterator[list[int]]:
    """Signal this process before its N-th line of this project runs; count all lines."""
    count = [0]
    root = Path(__file__).parents[2]
    ours = tuple(f"{root / folder}{os.sep}" for folder in ("denoise", "pipelines", "tests"))  # not .venv

    def trace(frame: FrameType, event: str, argument: object) -> Any:  # noqa: ARG001
        if event == "call" and not frame.f_code.co_filename.startswith(ours):
            return None
        if event == "line":
            count[0] += 1
            if count[0] == line:
                os.kill(os.getpid(), number)
        return trace

    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(None)


class Stopped(BaseException):
    """An interruption, like `KeyboardInterrupt`, that no file is to blame for."""


def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise Stopped


def run_and_die(scene: Scene, line: int, number: int) -> int:
    """Run a batch in a fork that gets a signal at a line; gives the signal or exit code that ended it."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        code = 1
        try:
            with stopping_at(line, number):
                scene.run()
            code = 0
        except Stopped:
            code = 130
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill(root: Path, trials: int, seed: int) -> Iterator[str]:
    """Stop a batch at random lines; return the broken promises."""
    os.fsync = lambda _: None  # the page cache outlives the process
    scene = turning(root)
    scene.reset()
    scene.run()  # the first imports
    scene.reset()
    with stopping_at(0, 0) as count:
        scene.run()
    chance = random.Random(seed)
    for trial in range(trials):
        number = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[trial % 4]
        line = chance.randint(1, count[0] - 60)  # a run may take fewer lines than the one that was counted
        scene.reset()
        code = run_and_die(scene, line, number)
        if code != (-number if number == signal.SIGKILL else 130):
            yield f"line {line}: signal {number} ended it with {code}"
        yield from (f"line {line}, signal {number}: {broken}" for broken in scene.broken_promises())


# ---- a disk that is full -----------------------------------------------------------------------------------


def fill_the_disk(root: Path, workers: int, *, tmpfs: bool) -> Iterator[str]:
    """Run a batch whose outputs, larger than could be foreseen, do not fit."""
    import resource

    place = root / "disk"
    place.mkdir()
    if tmpfs:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)], check=True)
    source, out = root / "in", place / "out"
    fill_with_bytes(source, files=6, size_bytes=30_000)
    job = Turn(inputs=(source,), output=out, copies=3, workers=workers)
    if not tmpfs:
        (source / "1 ö.png").write_bytes(b"large" * 8000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    expected = {name: content[::-1] * 3 for name, content in contents(source).items()}
    result = batch.run(job)
    if tmpfs and not (result.stopped and "No space left on device" in result.stopped):
        yield f"it goes on: {result.stopped} {result.counts}"
    if not tmpfs and result.counts != {"ok": 5, "failed": 1}:
        yield f"a file too large is not the one that fails: {result.counts}"
    made = contents(out)
    if not made or any(expected[name] != content for name, content in made.items()):
        yield f"there are {sorted(made)}, and not whole"
    if tmpfs:
        subprocess.run(["mount", "-o", "remount,size=4m", str(place)], check=True)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    again = batch.run(job).counts
    unseen = len(made) - again["skipped"]  # written by one worker while the other met the end of the disk
    if not 0 <= unseen < workers or again["ok"] != 6 - again["skipped"]:
        yield f"the second run says {again}, of 6 of which {len(made)} were there"
    if contents(out, hidden=True) != expected:
        yield f"the second run ends with {sorted(contents(out, hidden=True))}"


if __name__ == "__main__":
    what, root, *rest = sys.argv[1:]
    try:
        if what == "kill":
            wrong = list(kill(Path(root), int(rest[0]), int(rest[1])))
        else:
            wrong = list(fill_the_disk(Path(root), int(rest[0]), tmpfs=rest[1:] == ["tmpfs"]))
    except DenoiseError as error:
        wrong = [f"unexpected {error!r}"]
    print(json.dumps(wrong))
