"""The grammar of the command line: words that are no option or command, values that begin with a dash, help for people."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from provider.help_pages.style import has_colors, styled
from provider.interrupts import starting
from provider.suggestions import suggestion

_OPTION = re.compile(r"-(?!([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?\Z).+", re.DOTALL | re.IGNORECASE)
"""A word that begins with a dash, other than a negative number and a dash alone."""


class _Page:
    """The help page of a command: in colors at a terminal, with its examples below everything else."""

    epilog: str | None

    def get_help(self, ctx: Any) -> str:
        page: str = super().get_help(ctx)  # type: ignore[misc]  # typer's
        return styled(page) if has_colors(sys.stdout) else page

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.epilog:
            formatter.write_paragraph()
            formatter.write_text(self.epilog)


_NOTABLE = 2**32
"""Larger limits are those of a type, e.g. of a revision."""


class Command(_Page, TyperCommand):
    """A command. A negative number is a value, an unknown option is not."""

    def get_params(self, ctx: Any) -> Any:
        return _adapted(super().get_params(ctx))

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


class LaterCommand(TyperCommand):
    """The entry of a command in the list of its group. The command itself is imported once it is named.

    Args:
        name: Name of the command.
        summary: The first sentence of its help.
        load: Imports the command. It is given as a typer, of one command or of a group.
        is_hidden: Whether help leaves the command out.
    """

    def __init__(self, name: str, summary: str, load: Callable[[], typer.Typer], *, is_hidden: bool = False) -> None:
        super().__init__(name, help=summary, rich_markup_mode=None, hidden=is_hidden)
        self._load = load

    def loaded(self) -> Any:
        """Return the command."""
        with starting():
            made = self._load()
        made.rich_markup_mode = None
        command = get_command(made)
        command.name = self.name
        return command


def single(name: str, command: Callable[..., None], epilog: str | None = None) -> typer.Typer:
    """Return a typer of one command, for `LaterCommand`."""
    made = typer.Typer(add_completion=False)
    made.command(name, cls=Command, epilog=epilog)(command)
    return made


class CommandGroup(_Page, TyperGroup):
    """A group of commands, with options of its own before the name of a command.

    Attributes:
        later: The commands that are imported once they are named.
    """

    later: ClassVar[tuple[LaterCommand, ...]] = ()

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.commands.update((str(entry.name), entry) for entry in self.later)

    def get_params(self, ctx: Any) -> Any:
        return _adapted(super().get_params(ctx))

    def named(self, name: str) -> Any:
        """Return a command of the group, imported."""
        found = self.commands[name]
        if isinstance(found, LaterCommand):
            is_hidden = found.hidden
            found = self.commands[name] = found.loaded()
            found.hidden = is_hidden
        return found

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = _options(self, ctx)
        if not ctx.resilient_parsing and (unknown := next(_unknown_options(options, args, is_group=True), None)):
            raise _NoSuchOptionError(unknown, options, ctx)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if not ctx.resilient_parsing and args and args[0] not in self.commands:
            raise _NoSuchCommandError(args[0], [name for name, one in self.commands.items() if not one.hidden], ctx)
        if args and args[0] in self.commands:
            self.named(args[0])
        return super().resolve_command(ctx, args)


class _Conversion:
    """The conversion of a parameter's value, by typer only where it is needed: that loads pydantic, for as long as all else."""

    def __init__(self, by_typer: Callable[[], Any]) -> None:
        self._by_typer = by_typer

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value as its type; typer calls this method."""
        type_ = param.type_descriptor.annotation
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        # A text, or the default of an option. That of a path is checked.
        if isinstance(type_, type) and isinstance(value, type_) and not issubclass(type_, Path):
            return value
        if type_ == list[str]:
            return list(value)
        return self._by_typer().coerce(value, param=param, ctx=ctx)


class _Option(TyperOption):
    def get_runtime_param(self) -> Any:
        return _Conversion(super().get_runtime_param)

    def _get_number_range_help_str(self) -> str | None:
        return _range(self.min, self.max)


class _Argument(TyperArgument):
    """An argument whose help shows its name, and not the name of a type in Python."""

    def get_runtime_param(self) -> Any:
        return _Conversion(super().get_runtime_param)

    @property
    def display_name_raw(self) -> str:
        return (self.metavar or self.name).upper()

    def display_type_rich(self, ctx: Any) -> None:
        """Return no name of a type."""

    def _usage_display_name(self) -> str:
        name = self.display_name_raw if self.required else f"[{self.display_name_raw}]"
        return f"{name}..." if self.nargs != 1 else name

    def _get_number_range_help_str(self) -> str | None:
        return _range(self.min, self.max)


def _range(least: float | None, most: float | None) -> str | None:
    """Return the words for a range of numbers. A limit that nobody reaches is left out."""
    if least is None:
        return None
    return f"{least} or more" if most is None or most > _NOTABLE else f"{least} to {most}"


def _adapted(parameters: list[Any]) -> list[Any]:
    """Replace typer's classes of parameters by ours, as typer takes none."""
    for parameter in parameters:
        if isinstance(parameter, TyperArgument):
            parameter.__class__ = _Argument
        elif isinstance(parameter, TyperOption):
            parameter.__class__ = _Option
    return parameters


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
