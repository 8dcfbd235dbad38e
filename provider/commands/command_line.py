"""The grammar of the command line: words that are no option or command, values that begin with a dash, help for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from provider.suggestions import suggestion

_OPTION = re.compile(r"-(?!([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?\Z).+", re.DOTALL | re.IGNORECASE)
"""A word that begins with a dash, other than a negative number and a dash alone."""


class Command(TyperCommand):
    """A command. A negative number is a value, an unknown option is not."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for parameter in self.params:
            if isinstance(parameter, TyperArgument):
                parameter.__class__ = _Argument  # typer takes no class for arguments

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = _options(self, ctx)
        if not ctx.resilient_parsing and (unknown := next(_unknown_options(options, args), None)):
            has_values = any(isinstance(parameter, TyperArgument) for parameter in self.params)
            raise _NoSuchOptionError(unknown, options, ctx, has_values=has_values)
        ctx.ignore_unknown_options = True  # only negative numbers look like such
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete a word, also to an option that the help leaves to the group."""
        for parameter in self.params:
            if isinstance(parameter, TyperOption):
                parameter.hidden = False
        return super().shell_complete(ctx, incomplete)


class Group(TyperGroup):
    """A group of commands, with options of its own before the name of a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = _options(self, ctx)
        if not ctx.resilient_parsing and (unknown := next(_unknown_options(options, args, is_group=True), None)):
            raise _NoSuchOptionError(unknown, options, ctx)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if not ctx.resilient_parsing and args and args[0] not in self.commands:
            raise _NoSuchCommandError(args[0], [name for name, one in self.commands.items() if not one.hidden], ctx)
        return super().resolve_command(ctx, args)


class _Argument(TyperArgument):
    """An argument whose help shows its name, and not the name of a type in Python."""

    @property
    def display_name_raw(self) -> str:
        return (self.metavar or self.name).upper()

    def display_type_rich(self, ctx: Any) -> None:
        """Return no name of a type."""


class _UnknownWordError(typer.BadParameter):
    def format_message(self) -> str:
        return self.message


class _NoSuchOptionError(_UnknownWordError):
    """An option that does not exist. The text has the one that resembles it most, else all."""

    def __init__(self, option: str, options: Iterable[str], ctx: Any, *, has_values: bool = False) -> None:
        known = ", ".join(sorted(name for name in options if name.startswith("--")))
        hint = suggestion(option, {name: name for name in options}, f"the options are {known}")
        dashes = " (-- goes before values that begin with a dash)" if has_values else ""
        super().__init__(f"there is no option {option}; {hint}{dashes}", ctx)


class _NoSuchCommandError(_UnknownWordError):
    """A command that does not exist. The text has the one that resembles it most, else all."""

    def __init__(self, command: str, commands: Iterable[str], ctx: Any) -> None:
        names = {name: name for name in commands}
        hint = suggestion(command, names, f"the commands are {', '.join(names)}")
        super().__init__(f"there is no command {command!r}; {hint}", ctx)


def _options(command: Any, ctx: Any) -> dict[str, Any]:
    """Return the options of a command by each of their names."""
    return {name: option for option in command.get_params(ctx) for name in (*option.opts, *option.secondary_opts)}


def _unknown_options(options: Mapping[str, Any], args: list[str], *, is_group: bool = False) -> Iterator[str]:
    """Yield the options before `--` that are not known; those of a group stand before the name of a command."""
    words = iter(args)
    for word in words:
        if word == "--":
            return
        name = word.partition("=")[0]
        if word in options:
            if not getattr(options[word], "is_flag", False):
                next(words, None)
        elif name not in options and _OPTION.fullmatch(word):
            yield name
        elif is_group and not word.startswith("-"):
            return
