"""Mistakes in the words of a command, in the form of all messages."""

from __future__ import annotations

from typing import Any, cast

import typer
from typer.core import TyperGroup

from facefocus.core.errors import UserError, did_you_mean

#: What typer raises for words that make no command; its module depends on typer's version.
UsageError = cast(type[Exception], typer.BadParameter.__base__)


class CommandGroup(TyperGroup):
    """Commands below a word, such as ``facefocus models``; suggests the nearest of them."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first word names.

        Raises:
            UserError: There is none; names the nearest one.
        """
        word, known = args[0], self.list_commands(ctx)
        if not word.startswith("-") and word not in known and not ctx.resilient_parsing:
            raise UserError(
                f"The word after '{ctx.command_path}' must be one of {', '.join(known)}."
                f" Got '{word}'.{did_you_mean(word, known)}"
            )
        return super().resolve_command(ctx, args)


def usage_message(error: Any) -> str:
    """The message of a `UsageError`: in one line, with the command that shows what is right."""
    command = error.ctx.command_path if error.ctx is not None else "facefocus"
    see = f"See: {command} --help"
    if not hasattr(error, "possibilities"):
        return f"{error.format_message().rstrip('.')}. {see}"
    known = [word for option in error.ctx.command.params for word in option.opts]
    named = error.option_name
    return f"The command '{command}' has no option '{named}'.{did_you_mean(named, known)} {see}"
