"""The commands of `keyvalue-nats kv`, under the names and aliases that `nats kv` has for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

import typer

from provider.commands.command_line import CommandGroup, LaterCommand, single
from provider.commands.target import connection_options, with_target_of_group

EXAMPLES = """\b
Examples:
  keyvalue-nats kv add my-kv
  keyvalue-nats kv put my-kv Key1 Value1
  keyvalue-nats kv get my-kv Key1
  keyvalue-nats kv create my-kv Semaphore1 Value1 --ttl 30s
  keyvalue-nats kv update my-kv Semaphore1 Value2 2
  keyvalue-nats kv watch my-kv 'orders.>' --json
  keyvalue-nats kv rm my-kv

Exit codes: 0 success; 1 failure, with one line on standard error; 2 if the command line is not valid.
Put -- before a value that begins with - and is not a number.
"""

_CONNECTION = "Options of the connection, such as --nats: keyvalue-nats kv --help"

_COMMANDS = (
    ("bucket_commands", "add", "add new", "Create a bucket."),
    ("bucket_commands", "ls", "ls list", "List the buckets, or the keys of one bucket."),
    ("bucket_commands", "info", "info status view", "Show the settings and the size of a bucket."),
    ("entry_commands", "put", "put", "Put a value, whether or not the key has one."),
    ("entry_commands", "get", "get", "Show a value; exit code 1 if the key has none."),
    ("entry_commands", "create", "create", "Put a value if the key has none; exit code 1 if it has one."),
    (
        "entry_commands",
        "update",
        "update",
        "Put a value if the key has the given revision; otherwise show its revision, with exit code 1.",
    ),
    ("entry_commands", "delete", "del rm", "Delete a key but keep its history; or remove a bucket."),
    ("entry_commands", "purge", "purge", "Delete a key and its history."),
    ("bucket_commands", "keys", "keys", "List the keys of a bucket."),
    ("entry_commands", "history", "history", "Show all revisions of a key that the bucket still has."),
    ("entry_commands", "revert", "revert", "Put an old value of a key again."),
    ("watch_command", "watch", "watch", "Show the values of a bucket and then every change, until Ctrl-C."),
    ("compact_command", "compact", "compact", "Remove the markers of deleted keys."),
)
"""Module, function, names, and the first sentence of the help of each command."""

_HIDDEN = ("new", "list", "status", "view")
"""Names that `nats kv` has too, and that the help leaves out."""


def _entry(module: str, function: str, name: str, summary: str, *, is_hidden: bool = False) -> LaterCommand:
    """Return the entry of a command, whose module is imported once it is named."""

    def load() -> typer.Typer:
        command: Callable[..., None] = getattr(import_module(f"provider.commands.kv.{module}"), function)
        return single(name, with_target_of_group(command), _CONNECTION)

    return LaterCommand(name, summary, load, is_hidden=is_hidden)


def _entries() -> Iterator[LaterCommand]:
    for module, function, names, summary in _COMMANDS:
        for name in names.split():
            yield _entry(module, function, name, summary, is_hidden=name in _HIDDEN)


class _Commands(CommandGroup):
    later = tuple(_entries())


kv = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False)


@kv.callback(epilog=EXAMPLES)
@connection_options
def group() -> None:
    """Manage buckets, as the `nats kv` command does. The options below may also stand behind each command."""
