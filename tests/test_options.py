"""One annotated field makes an option: argument, default, check, flag, fingerprint, docs."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import click
import pytest
from click.testing import CliRunner

from denoise.errors import UsageError
from denoise.options import CleanOptions, Field, LimitOptions, Option, Options
from pipelines.batch.jobs import CleanJob, CorruptJob, CorruptOptions, Job
from pipelines.benchmark.job import BenchmarkJob, CostJob
from pipelines.cli import options as flags
from pipelines.cli.group import cli
from pipelines.explore.jobs import AnomaliesJob, EmbedJob, SimilarJob
from pipelines.serve.job import ServeJob
from pipelines.sound_card import ListenJob

MODALITIES = ("image", "audio", "sensor")

# Options of `clean` that change no output; all others change the fingerprint.
SAME_OUTPUT: dict[str, Any] = {"block": 1000, "max_pixels": 1000, "max_duration_s": 5.0, "strict": True}
SAME_OUTPUT_JOB: dict[str, Any] = {
    "output": Path("elsewhere"),
    "recursive": False,
    "in_place": True,
    "backup": ".orig",
    "template": "{stem}_clean{ext}",
    "format": "flac",
    "overwrite": True,
    "dry_run": True,
    "manifest": True,
    "workers": 3,
    "engine": "dask",
    "scheduler": "tcp://127.0.0.1:1",
    "keep_mtime": True,
    "timeout": 9.0,
    "memory": 1 << 30,
}


def another(field: Field) -> Any:
    """Return a value of an option other than its default."""
    option = field.option
    if option.choices:
        values: list[Any] = list(option.choices)
    elif field.kind in (int, float):
        bounds = (option.low, option.low + 1, (option.low + option.high) / 2)
        values = [field.kind(value) for value in bounds if math.isfinite(value)]
        values = values[option.low_open :]
    else:
        values = {bool: [False, True], str: ["x", "y"], Path: [Path(__file__)]}[field.kind]
    found = ((value,) if field.many else value for value in values)
    return next(value for value in found if value != field.default)


OTHER = {
    **{name: another(field) for name, field in CleanOptions.table().items() if name not in SAME_OUTPUT},
    "model": "none",
}


def fingerprints(options: CleanOptions, **settings: Any) -> dict[str, str]:
    job = CleanJob(**{"inputs": (Path(__file__),), "output": Path("out"), "options": options, **settings})
    return {modality: job.fingerprint(modality) for modality in MODALITIES}


def test_every_option_of_a_job_is_listed_here() -> None:
    assert SAME_OUTPUT.keys() <= CleanOptions.table().keys()
    assert SAME_OUTPUT_JOB.keys() == Job.table().keys()


@pytest.mark.parametrize("name", OTHER)
def test_an_option_that_changes_outputs_changes_the_fingerprint(name: str) -> None:
    before, after = fingerprints(CleanOptions()), fingerprints(CleanOptions(**{name: OTHER[name]}))
    changed = {modality for modality in MODALITIES if before[modality] != after[modality]}
    own = {"fast": ("image", "audio")}.get(name)  # all files take it; logs have one model
    assert changed == set(own or CleanOptions.table()[name].option.modalities or MODALITIES)


@pytest.mark.parametrize("name", SAME_OUTPUT)
def test_an_option_that_changes_no_output_leaves_the_fingerprint(name: str) -> None:
    assert fingerprints(CleanOptions(**{name: SAME_OUTPUT[name]})) == fingerprints(CleanOptions())


@pytest.mark.parametrize("name", SAME_OUTPUT_JOB)
def test_where_a_job_runs_leaves_the_fingerprint(name: str) -> None:
    needed = {"scheduler": {"engine": "dask"}, "backup": {"in_place": True}}.get(name, {})
    settings = {**needed, name: SAME_OUTPUT_JOB[name]}
    assert fingerprints(CleanOptions(), **settings) == fingerprints(CleanOptions())


# ---- a new option touches one place ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MoreOptions(CleanOptions):
    warmth: Annotated[
        float, Option("Colour temperature.", "K", low=1000, high=9000, modalities=("image",))
    ] = 5000.0


@dataclass(frozen=True, kw_only=True)
class MoreJob(CleanJob):
    options: MoreOptions = field(default=MoreOptions())


def test_a_new_field_is_flag_check_fingerprint_and_docs_line() -> None:
    @click.command()
    @flags.job_options(MoreJob)
    def command(json_path: Path | None, **settings: Any) -> None:
        assert json_path is None
        job = flags.job_from(MoreJob, settings)
        click.echo(f"{job.options.warmth} {job.fingerprint('image')} {job.fingerprint('audio')}")

    run = CliRunner().invoke
    arguments = [__file__, "-o", "out"]
    shown = run(command, ["--help"]).output
    assert "--warmth K" in shown
    assert "Colour temperature.  [default: 5000.0; 1000<=x<=9000]" in " ".join(shown.split()).replace(
        ". [", ".  ["
    )
    plain, warm = (run(command, [*arguments, *more]).output.split() for more in ([], ["--warmth", "3000"]))
    assert (plain[0], warm[0]) == ("5000.0", "3000.0")
    assert plain[1] != warm[1]
    assert plain[2] == warm[2]
    assert run(command, [*arguments, "--warmth", "9"]).exit_code == 2
    with pytest.raises(UsageError, match=r"warmth is 9; expected 1000 to 9000 K"):
        MoreOptions(warmth=9)
    assert "| `--warmth K` | Colour temperature. | 1000 to 9000 K | 5000 |" in flags.markdown(MoreOptions)


# ---- checks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"strength": 1.5}, "strength is 1.5; expected 0 to 1"),
        ({"strength": float("nan")}, "strength is nan; expected 0 to 1"),
        ({"sigma": float("inf")}, "sigma is inf; expected 0 or more"),
        ({"sample_rate": 0}, "sample_rate is 0; expected more than 0 Hz"),
        ({"fill_gaps": True}, "fill_gaps is True; expected 0 to 1024 samples"),
        ({"time_unit": "y"}, "time_unit is 'y'; expected one of s, ms, us, ns, min, h, d, ticks"),
        ({"columns": "x"}, "columns is 'x'; expected a list of words"),
        (
            {"fast": True, "model": "photo"},
            "fast: selects the models itself; leave out the model photo, or fast",
        ),
        ({"max_attenuation_db": -1.0}, "max_attenuation_db is -1.0; expected 0 or more dB"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        CleanOptions(**wrong)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "kind",
    [
        *(CleanOptions, CorruptOptions, CleanJob, CorruptJob, BenchmarkJob, CostJob),
        *(EmbedJob, SimilarJob, AnomaliesJob, ServeJob, ListenJob),
    ],
)
def test_every_whole_number_has_bounds(kind: type[Options]) -> None:
    for name, found in kind.table().items():
        if found.kind is int:
            assert math.isfinite(found.option.low), name
            assert found.option.high <= 10**15, name
            with pytest.raises(UsageError, match=f"{name} is 99999999999999999999; expected"):
                found.normalise(99999999999999999999)


@pytest.mark.parametrize(
    "arguments",
    [
        *("clean . -o a --workers", "clean . -o a --memory", "corrupt . -o a --seed"),
        *("embed . -o a --code-size",),
        *("benchmark . --seeds", "models cost none --threads", "similar --in a -k", "serve --max-files"),
    ],
)
def test_a_number_beyond_its_bounds_is_wrong_usage(arguments: str) -> None:
    found = CliRunner().invoke(cli, [*arguments.split(), "99999999999999999999"])
    assert found.exit_code == 2
    assert "99999999999999999999" in found.stderr, found.stderr


def test_values_get_the_type_of_their_field() -> None:
    options = CleanOptions(columns=["a", "b"], reference="truth")  # type: ignore[arg-type]
    assert (options.columns, options.reference) == (("a", "b"), Path("truth"))
    assert CleanOptions(max_attenuation_db=float("inf")).bounded_strength == 1.0
    recognised = CleanOptions(purpose="recognition").bounded_strength
    assert recognised == CleanOptions(max_attenuation_db=12.0).bounded_strength
    assert CleanOptions(purpose="recognition", max_attenuation_db=6.0).bounded_strength < recognised


def test_options_of_other_kinds_are_reset_or_refused() -> None:
    options = CleanOptions(fill_gaps=4, max_attenuation_db=6.0, strength=0.5)
    assert options.for_modality("image") == CleanOptions(strength=0.5)
    assert options.for_modality("sensor") == CleanOptions(fill_gaps=4, strength=0.5)
    with pytest.raises(UsageError, match=r"fill_gaps is for sensor; a\.png is image"):
        options.check_modality("image", Path("a.png"))


def test_the_page_of_options_is_what_the_fields_say() -> None:
    page = Path(__file__).parents[1] / "docs" / "options.md"
    assert page.read_text("utf-8") == flags.page(), "run: python -m pipelines.cli.options > docs/options.md"
    assert LimitOptions.table().keys() <= CleanOptions.table().keys()
