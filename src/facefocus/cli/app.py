"""The program: its commands from one file a group, and how it ends after a mistake."""

from __future__ import annotations

import io
import logging
import sys
import traceback
from typing import Annotated

import typer

from facefocus.cli import (
    apply_commands,
    card_commands,
    check_commands,
    model_commands,
    person_commands,
    prepare_commands,
    report_commands,
    run_commands,
    store_commands,
    submission_commands,
    synthetic_commands,
)
from facefocus.cli.printing import Notices, show
from facefocus.cli.usage import CommandGroup, UsageError, usage_message
from facefocus.core.errors import UserError, blaming_own_code

app = typer.Typer(
    cls=CommandGroup,
    help="Which regions of a face make a recognizer know this person - tested by hiding them.",
    no_args_is_help=True,
    # Texts in brackets, such as [stop], are no markup; lines of a paragraph are joined.
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
# In the order of the panels in the program's help.
for group in (
    prepare_commands,
    person_commands,
    apply_commands,
    model_commands,
    card_commands,
    run_commands,
    check_commands,
    report_commands,
    submission_commands,
    synthetic_commands,
    store_commands,
):
    app.add_typer(group.commands)


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files need not be UTF-8: what cannot be printed is escaped, as on stderr.
        sys.stdout.reconfigure(errors="backslashreplace")
    log = logging.getLogger("facefocus")
    log.handlers = [Notices()]
    # Wherever it stands: not only before the command.
    arguments = [word for word in sys.argv[1:] if word != "--traceback"]
    try:
        with blaming_own_code():
            code = app(arguments, standalone_mode=False)
    except UsageError as error:
        # A group without a word after it shows its help.
        no_word = type(error).__name__ == "NoArgsIsHelpError"
        show(error if no_word else usage_message(error), error=True)
        raise SystemExit(2) from None
    except typer.Abort:
        raise SystemExit(1) from None
    except UserError as error:
        if "--traceback" in sys.argv:
            traceback.print_exception(error)
        else:
            show(error, error=True)
        raise SystemExit(error.code) from None
    raise SystemExit(code or 0)


@app.callback(invoke_without_command=True)
def _global(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show in full where an error came from.")
    ] = False,
) -> None:
    if version:
        from facefocus import __version__

        show(__version__)
        raise typer.Exit
