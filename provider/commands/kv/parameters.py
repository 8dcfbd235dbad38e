"""Arguments and options that several commands of `kv` share."""

from __future__ import annotations

from typing import Annotated

import typer

MAX_REVISION = 2**64 - 1
"""A revision is a sequence number of a stream, which is an unsigned integer of 64 bits."""

BucketArgument = Annotated[str, typer.Argument(help="Name of the bucket.")]
KeyArgument = Annotated[str, typer.Argument(help="Name of the key, as stored or as an actor wrote it.")]
TtlOption = Annotated[
    str, typer.Option(metavar="DURATION", help="Time until the value expires, e.g. 30s or 12h; 0 means never.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
JsonLinesOption = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Do not ask for confirmation.")]
