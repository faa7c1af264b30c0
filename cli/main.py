"""The `s2d` command: every noun in a file of its own, heavy imports inside the commands."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Annotated

import typer

from cli.commands import Root
from s2d_store.errors import S2DError
from s2d_store.redact import redact
from s2d_store.runs import invocation
from s2d_store.version import __version__

INTERRUPTED = 130

app = typer.Typer(
    name="s2d",
    cls=Root,
    help="An offline store of rollouts for LLM post-training: generate, verify, score, query, "
    "lock datasets, train.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"s2d {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show s2d's version."
        ),
    ] = False,
) -> None:
    """Hold the options that come before any command."""


def main() -> None:
    """Run the command line; a user's mistake prints one error and exits 1, Ctrl-C exits 130."""
    sys.excepthook = _print_traceback
    try:
        with invocation.invoked(argv=invocation.masked(("s2d", *sys.argv[1:]))):
            app()
    except S2DError as error:
        _print_error(str(_damage_behind(error) or error))
        sys.exit(1)
    except SystemExit as stop:
        # Typer turns Ctrl-C into this exit status and says nothing.
        if stop.code == INTERRUPTED:
            _print_error(
                "stopped by Ctrl-C\n  what is committed stays; "
                "run the same command again to continue"
            )
        raise
    except BrokenPipeError:
        # The reader (head, less) went away; keep Python from complaining when it flushes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # the boundary: a damaged file shows wherever it is read
        found = _damage_behind(error)
        if found is None:
            raise
        _print_error(str(found))
        sys.exit(1)


def _damage_behind(error: Exception) -> S2DError | None:
    from cli.options import opened

    says_so = isinstance(error, S2DError) and (
        error.__cause__ is None or "s2d doctor" in error.fix or "s2d dataset restore" in error.fix
    )
    if says_so or not opened:
        return None
    from s2d_store.maintenance.diagnose_error import diagnose_file_error

    return diagnose_file_error(error, opened[-1])


def _print_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print what nobody foresaw, as Python does, with secrets masked."""
    import traceback

    print(redact("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def _print_error(text: str) -> None:
    from cli.output import colored

    prefix = typer.style("error:", fg="red", bold=True) if colored(sys.stderr) else "error:"
    print(f"{prefix} {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
