"""The commands of `keyvalue-nats kv`, under the names and aliases that `nats kv` has for them."""

from __future__ import annotations

import typer

from provider.commands.command_line import Command, Group
from provider.commands.kv import bucket_commands as buckets
from provider.commands.kv import entry_commands as entries
from provider.commands.kv.compact_command import compact
from provider.commands.kv.watch_command import watch
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

kv = typer.Typer(cls=Group, no_args_is_help=True, add_completion=False)


@kv.callback(epilog=EXAMPLES)
@connection_options
def group() -> None:
    """Manage buckets, as the `nats kv` command does. The options below may also stand behind each command."""


for _name, _command, _aliases in (
    ("add", buckets.add, ("new",)),
    ("ls", buckets.ls, ("list",)),
    ("info", buckets.info, ("status", "view")),
    ("put", entries.put, ()),
    ("get", entries.get, ()),
    ("create", entries.create, ()),
    ("update", entries.update, ()),
    ("del", entries.delete, ("rm",)),
    ("purge", entries.purge, ()),
    ("keys", buckets.keys, ()),
    ("history", entries.history, ()),
    ("revert", entries.revert, ()),
    ("watch", watch, ()),
    ("compact", compact, ()),
):
    kv.command(_name, cls=Command, epilog=_CONNECTION)(with_target_of_group(_command))
    for _alias in _aliases:
        kv.command(_alias, cls=Command, epilog=_CONNECTION, hidden=_alias != "rm")(with_target_of_group(_command))
