"""`denoise info`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from denoise.errors import counted, printable
from pipelines.batch.forecast import bytes_text
from pipelines.cli import options

if TYPE_CHECKING:
    from pipelines.inspect.info import FileInfo

_UNITS = {
    "image": "of 255, estimated standard deviation",
    "audio": "dBFS, estimated",
    "sensor": "in its own units, estimated standard deviation",
}


@click.command()
@options.inputs
@options.show_option
def command(inputs: tuple[Path, ...], json_path: Path | None) -> None:
    """Report the content of files, their noise, the metadata that is kept, and the cost of cleaning them.

    Noise and cost are estimates. A file that cannot be cleaned is reported with the reason, and the exit
    code is 1.

    \b
    Example:
      denoise info photos/ recording.wav
    """
    from denoise import machine
    from pipelines.inspect.doctor import machine_text
    from pipelines.inspect.info import describe

    rows: list[dict[str, Any]] = []
    failed = False
    for described in describe(inputs):
        failed = failed or described.error is not None
        if json_path:
            rows.append(described.row())
        if json_path != options.STDOUT:
            click.echo("\n".join(map(printable, _lines(described))))
    if json_path != options.STDOUT:
        click.echo(f"this machine: {machine_text()}")
    facts: dict[str, int | None] = {"cores": machine.cores(), "memory_bytes": machine.memory_bytes()}
    facts["available_bytes"] = machine.available_bytes()
    options.show_json(json_path, {"rows": rows, "machine": facts})
    options.exit_if(failed)


def _lines(described: FileInfo) -> Iterator[str]:
    if described.error:
        yield f"failed {described.error}"
        return
    facts = ", ".join([*_facts(described), bytes_text(described.size_bytes)])
    yield f"{described.source}: {described.format} {described.modality}, {facts}"
    for number, track in enumerate(described.facts.get("tracks", ()), 1):
        yield f"  track {number:<4} {', '.join(_facts(replace(described, facts=track)))}"
    if described.kept:
        yield f"  keeps      {_listed(described.kept)}"
    for value in described.noise.values():
        yield f"  noise      {value:.3g} {_UNITS[described.modality or '']}"
    yield f"  model      {described.model}{' -> ' + described.decision if described.decision else ''}"
    cost = described.cost
    yield f"  predicted  {cost.estimated_seconds:.2g} s, {bytes_text(cost.estimated_bytes_out)} to write"
    for note in described.notes:
        yield f"  note       {note}"


def _facts(described: FileInfo) -> Iterator[str]:
    """The facts for people: those that say something."""
    facts = described.facts
    if described.modality == "image":
        yield f"{facts['width_px']} x {facts['height_px']} px"
        yield str(facts["dtype"])
        if facts["pages"] > 1:
            yield f"{facts['pages']} pages"
    if facts.get("sample_rate_hz"):
        yield f"{facts['sample_rate_hz']:g} Hz"
    if facts.get("duration_s"):
        yield f"{facts['duration_s']:.4g} s"
    if "samples" in facts:
        yield counted(facts["samples"], "sample")
    yield counted(facts["channels"], "channel")
    if facts.get("recordings", 1) > 1:
        yield f"the first of {facts['recordings']} recordings"
    if facts.get("tracks"):
        yield f"the first of {len(facts['tracks'])} sound tracks"
    if "encoding" in facts:
        yield str(facts["encoding"])
    if facts.get("columns"):
        yield f"cleans {_listed(facts['columns'])}"


def _listed(names: Any, most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
