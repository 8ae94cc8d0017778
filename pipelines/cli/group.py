"""The group of commands, loaded lazily, and the exit code of every error."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

import click

from denoise.errors import DenoiseError, OutputError, UsageError, printable, reason
from denoise.registry import resolve, unknown
from pipelines.cli import settings

_NAMES = (
    "clean", "watch", "serve", "live", "corrupt", "score", "benchmark", "train", "embed", "reconstruct",
    "similar", "anomalies", "compress", "decompress", "adapt", "models", "info", "verify", "restore",
    "doctor", "config", "completion",
)  # fmt: skip
COMMANDS: Mapping[str, str] = {
    **{name: f"pipelines.cli.{name}:command" for name in _NAMES},
    "help": "pipelines.cli.about:help_command",
    "version": "pipelines.cli.about:version",
}
_TRACEBACK = "DENOISE_TRACEBACK"  # environment variable
_WITHOUT_SETTINGS = ("help", "version", "doctor", "completion")  # work beside broken settings


class WrongUsage(click.ClickException):
    """Call that cannot work."""

    exit_code = 2


class Stopped(click.ClickException):
    """Work ended by the disk of the outputs, not by the inputs."""

    exit_code = 3


def failure(error: DenoiseError) -> click.ClickException:
    """Convert an error of the library to one of click with its exit code."""
    kinds = {UsageError: WrongUsage, OutputError: Stopped}
    kind = next((kinds[k] for k in kinds if isinstance(error, k)), click.ClickException)
    return kind(printable(str(error)))


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled as Ctrl-C."""


class LazyGroup(click.Group):
    """Group that imports a command on use, and gives each error its sentence and exit code."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = resolve(COMMANDS[cmd_name])
        command.name = cmd_name  # in the module all are called `command`
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the first sentence of each command whole; click would cut it to one line."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, found.get_short_help_str(200)) for name, found in commands if found])

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        unset = not args or args[0].startswith("-") or args[0] in _WITHOUT_SETTINGS
        try:
            default_map = {} if unset else settings.read()
            return super().make_context(info_name, args, parent, **{"default_map": default_map, **extra})
        except DenoiseError as error:
            raise failure(error) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None and not ctx.resilient_parsing:
            raise unknown("command", name, COMMANDS)
        if command and ctx.default_map is not None:
            ctx.default_map[name] = settings.by_parameter(name, command, ctx.default_map.get(name, {}))
        if command and not ctx.resilient_parsing:
            _refuse_repeated(click.Context(command, ctx, name, resilient_parsing=True), args[1:])
        return name, command, args[1:]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _interruptible():
                return super().invoke(ctx)
        except DenoiseError as error:
            raise failure(error) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # click ends the process quietly
                raise
            kind = WrongUsage if error.errno == errno.ENAMETOOLONG else Stopped
            raise kind(printable(f"{error.filename or 'standard output'}: {error.strerror}")) from error
        except click.BadParameter as error:
            raise settings.with_source(error) from None
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            if os.environ.get(_TRACEBACK):
                raise
            sentence = f"unexpected {type(error).__name__}: {reason(error)}; {_TRACEBACK}=1 shows where"
            raise click.ClickException(printable(sentence)) from error
        except KeyboardInterrupt as stop:
            click.echo("Interrupted: the same command goes on with the rest.", err=True)
            ctx.exit(143 if isinstance(stop, Terminated) else 130)


def _refuse_repeated(ctx: click.Context, args: list[str]) -> None:
    """Refuse a noise or a list that is given twice, of which click would drop the first without a word.

    Of other options the last one counts, as everywhere, so that an alias may be overridden.
    """
    try:
        order = ctx.command.make_parser(ctx).parse_args(args)[2]
    except click.UsageError:  # the command itself says it
        return
    for option in order:
        if isinstance(option, click.Option) and not option.multiple and (times := order.count(option)) > 1:
            metavar = option.make_metavar(ctx)
            if metavar == "SPEC" or "," in metavar:
                raise WrongUsage(f"{option.opts[-1]} is given {times} times, but takes one {metavar}")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C and SIGTERM; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {signal.SIGTERM: _terminate, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        import denoise  # the version is looked up only when asked for

        click.echo(f"denoise {denoise.__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "auto_envvar_prefix": settings.PREFIX,
    },
    epilog="Exit codes: 0 all fine, 1 some inputs failed or were salvaged in part, 2 wrong usage or a plan "
    "that cannot work, 3 stopped by the disk of the outputs, 130 interrupted, 143 terminated.",
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    allow_from_autoenv=False,
    callback=_show_version,
    help="Show the version.",
)
def cli() -> None:
    """Clean noisy photos, recordings and sensor logs, offline, on an ordinary CPU.

    \b
    Example:
      denoise clean holiday/ -o cleaned/
    """


def run() -> None:
    """Run the command line of this process."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123 - until the end of the process
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a locale may lack letters of file names
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        try:
            cli(prog_name="denoise")
        finally:
            sys.stdout.flush()
    except OSError as error:  # of the streams, or of the settings: commands have handled theirs
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        if error.errno == errno.EPIPE:
            sys.exit(1)
        with suppress(OSError):
            place = error.filename or "standard output"
            click.echo(printable(f"Error: {place}: {error.strerror}"), err=True)
        sys.exit(3)
