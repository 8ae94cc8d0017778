"""`denoise models`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from denoise.errors import UsageError, printable
from pipelines import report
from pipelines.batch.jobs import Job
from pipelines.benchmark.job import CostJob
from pipelines.cli import options
from pipelines.cli.completion import complete_model

if TYPE_CHECKING:
    from denoise.infer.catalogue import CatalogueRow

_LONG = 2000  # letters that no sentence of a card has
_INDENT = 20  # letters before a fact of a card
_OF_NETWORK = ("parameters", "multiply", "receptive")
_OF_TRAINING = ("steps", "minutes", "device", "files")
_OF_RECIPE = {"about": "description", "trained on": "sources", "limits": "limits"}


@click.group(invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List the models, show the card of one, or check a weights file.

    \b
    Example:
      denoise models show photo
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models)


@command.command("list")
def list_models() -> None:
    """List every model with what it cleans.

    \b
    Example:
      denoise models list
    """
    from denoise.infer.catalogue import catalogue

    rows = [
        [row.name, ", ".join(row.modalities), row.kind, f"{row.size_bytes / 1e6:.2f} MB" if row.path else "-"]
        for row in catalogue()
    ]
    click.echo(report.table(["model", "cleans", "kind", "size"], rows, words=3))


@command.command()
@click.argument("name", shell_complete=complete_model)
@options.show_option
def show(name: str, json_path: Path | None) -> None:
    """Show the card of one model: NAME, or a weights file.

    \b
    Example:
      denoise models show photo
    """
    from denoise.infer.catalogue import find

    row = find(name)
    facts = {
        "name": row.name,
        "cleans": list(row.modalities),
        "kind": row.kind,
        "bytes": row.size_bytes,
        "digest": row.digest,
        **_network(row),
        **row.card,
    }
    options.say("\n".join(map(printable, _card_lines(row, _short(facts)))), json_path)
    options.show_json(json_path, _short(facts))


def _card_lines(row: CatalogueRow, facts: Mapping[str, Any]) -> Iterator[str]:
    """Format what a person asks of a model; the whole card is in --json."""
    recipe, training = facts.get("recipe", {}), facts.get("training", {})
    yield f"{row.name}: {row.kind}, cleans {' and '.join(row.modalities)}"
    shown = {
        "weights": f"{row.size_bytes / 1e6:.2f} MB, sha256 {row.digest[:12]}" if row.path else None,
        **{
            name: facts.get(name)
            for name in facts
            if name.startswith(("parameters", "multiply", "receptive"))
        },
        "chooses from": facts.get("picks"),
        **{title: recipe.get(name) for title, name in _OF_RECIPE.items()},
        "training": {
            name: training[name] for name in ("steps", "minutes", "device", "files") if name in training
        },
        **{f"results, {name}": value for name, value in facts.get("results", {}).items()},
    }
    for name, fact in shown.items():
        text = [] if fact is None else textwrap.wrap(_in_words(fact), report.WIDTH - _INDENT)
        if text:
            title = name.replace("_", " ")
            if len(title) > _INDENT - 4:
                yield f"  {title}"
                title = ""
            yield f"  {title:<{_INDENT - 2}}{text[0]}"
            yield from (" " * _INDENT + line for line in text[1:])


def _in_words(fact: Any) -> str:
    if isinstance(fact, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_in_words(value)}" for name, value in fact.items())
    if isinstance(fact, list):
        return ", ".join(map(_in_words, fact))
    return f"{fact:,}" if isinstance(fact, int) and not isinstance(fact, bool) else str(fact)


def _short(fact: Any) -> Any:
    """A fact without the arrays that a card may hold as text."""
    if isinstance(fact, dict):
        return {key: _short(value) for key, value in fact.items()}
    return f"{len(fact)} letters" if isinstance(fact, str) and len(fact) > _LONG else fact


def _network(row: CatalogueRow) -> dict[str, Any]:
    """Size, arithmetic and receptive field of a trained model."""
    if row.path is None:
        return {}
    from denoise import weights
    from pipelines.benchmark.cost import kmac_per_sample

    model = weights.load(row.path)[0]
    kmac, rate, halo = kmac_per_sample(model), model.spec.sample_rate, model.spec.halo
    unit, cost = ("second", 1e3 * kmac * rate) if rate else ("pixel", 1e3 * kmac)
    if not rate and model.spec.ndim == 1:
        unit = "sample"
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        f"multiply_adds_per_{unit}": round(cost),
        # A model without a halo remembers all of what came before.
        "receptive_field": None if halo is None else 2 * halo + 1,
    }


@command.command()
@click.argument("file")
def verify(file: str) -> None:
    """Check a weights file, or a model that ships, and say what was checked; exit code 1 if it is bad.

    \b
    Example:
      denoise models verify photo
    """
    from denoise import weights
    from denoise.infer.catalogue import find

    row = find(file)
    if row.path is None:
        raise UsageError(f"{file}: a {row.kind} method has no weights; expected a weights file")
    card, checked = weights.verify(row.path)
    for sentence in checked:
        click.echo(printable(f"ok  {sentence}"))
    facts = f"{row.path}: {card['name']}, {card['modality']}, sha256 {weights.digest(row.path)}"
    click.echo(printable(facts))


@command.command()
@click.argument("name", shell_complete=complete_model)
@click.argument("path", type=options.path_type, metavar="FILE.onnx")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def export(name: str, path: Path, overwrite: bool) -> None:
    """Write a trained model, by NAME or weights file, as ONNX, for programs without PyTorch.

    \b
    Example:
      denoise models export photo photo.onnx
    """
    from denoise.export import export_onnx
    from denoise.infer.catalogue import find, load

    report.check_outputs({path: (".onnx",)}, (), overwrite)
    facts = export_onnx(load(name, find(name).modalities[0], "float32").denoiser, path, name)
    click.echo(printable(f"{path}: " + ", ".join(f"{key} {value}" for key, value in facts.items())))


@command.command()
@click.argument("file", type=options.path_type, metavar="FILE.safetensors")
@click.option("--data", required=True, type=options.path_type, help="Clean photos to take the ranges from.")
@click.option("--judge", required=True, type=options.path_type, help="Others, to measure the loss on.")
@click.option("--pairs", type=options.path_type, help="Folder with clean/ and noisy/, to measure it on too.")
def calibrate(file: Path, data: Path, judge: Path, pairs: Path | None) -> None:
    """Measure what int8 and bf16 cost a network for images, and state it in its card.

    `--precision int8` reads its ranges there.

    \b
    Example:
      denoise models calibrate mine.safetensors --data photos/ --judge others/
    """
    from denoise.training.calibrate import calibrate as measure

    facts = measure(file, data, judge, pairs)
    rows = [
        [noise, *(f"{fact[key][noise]:.4f}" for fact in facts.values() for key in ("loss_db", "worst_db"))]
        for noise in facts["int8"]["loss_db"]
    ]
    header = [f"{name}, {what}" for name in facts for what in ("mean", "worst")]
    click.echo(report.table(["loss in dB", *header], rows))


@command.command()
@click.argument("file", type=options.path_type, metavar="FILE.safetensors")
@click.option("--data", required=True, type=options.path_type, help="Clean photos, like those to be cleaned.")
def shrink(file: Path, data: Path) -> None:
    """Store the kernels of a network for images in 8 bits: half the size, nearly the same results.

    \b
    Example:
      denoise models shrink mine.safetensors --data photos/
    """
    from denoise.training.rounding import shrink as store

    before, after = store(file, data)
    click.echo(f"{printable(str(file))}: {before} bytes before, {after} now")


@command.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_model)
@options.flags(CostJob)
@options.json_option
def cost(json_path: Path | None, names: tuple[str, ...], **settings: Any) -> None:
    """Time models against two published network shapes and a matrix product, on this machine, in turns.

    \b
    Example:
      denoise models cost photo wavelet --threads 2
    """
    from pipelines.benchmark import cost as costs

    found = costs.measure(CostJob(models=names, **settings))
    options.say(costs.as_table(found), json_path)
    if json_path:
        report.write_json(json_path, asdict(found))


@command.command()
@click.argument("model", shell_complete=complete_model)
@options.inputs
@options.flag(Job.table()["workers"])
@options.json_option
def overhead(json_path: Path | None, **settings: Any) -> None:
    """Compare the time of a batch with that of MODEL alone on the same files; results are discarded.

    \b
    Example:
      denoise models overhead photo photos/
    """
    from pipelines.benchmark import overhead as overheads

    found = overheads.measure(**settings)
    options.say(overheads.as_text(found), json_path)
    if json_path:
        report.write_json(json_path, found.as_dict())
