"""The command `denograd-jax`: files in, refined files and a report out."""

import os
import sys
from collections.abc import Sequence

__all__ = ["UnfinishedError", "entry_point", "main"]

DONE, MISTAKE, INTERRUPTED = 0, 2, 130
"""Exit codes."""


class UnfinishedError(Exception):
    """Ctrl-C during work that the same command would take up again; the message says so."""


def entry_point() -> None:
    """What the installed command calls: `main`, and out of the process with its code."""
    code = main()
    if code == INTERRUPTED:
        # Threads of XLA may be in the middle of a program, which an orderly exit would take apart
        # under their hands. Nothing is left to be tidied up.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What follows the command's name; those of the process unless given.

    Returns:
        The exit code: 0 done, 2 a user's mistake (one line on stderr), 130 interrupted.
    """
    from denograd_jax.errors import DenogradError

    try:
        return _run(arguments)
    except DenogradError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("Interrupted; nothing was written.", file=sys.stderr)
        return INTERRUPTED
    except UnfinishedError as interruption:
        print(f"Interrupted; {interruption}", file=sys.stderr)
        return INTERRUPTED


def _run(arguments: Sequence[str] | None) -> int:
    from denograd_jax.cli._extras import require

    require("the command line", "typer", "rich")
    import typer

    from denograd_jax.cli._app import app

    # The parent of the exported BadParameter: every complaint of typer's about its arguments.
    usage_error: type[Exception] = typer.BadParameter.__bases__[0]
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="denograd-jax", standalone_mode=False)
    except typer.Abort:
        code = INTERRUPTED
    except usage_error as error:
        return _refuse(error.format_message())  # type: ignore[attr-defined]
    if code == INTERRUPTED:  # newer versions of typer turn Ctrl-C into this code
        raise KeyboardInterrupt
    return code or DONE


def _refuse(message: str) -> int:
    line = " ".join(message.split())
    print(f"denograd-jax: {line.rstrip('.')}.", file=sys.stderr)
    return MISTAKE
