"""The errors of the commands. Each one ends the command with one line on standard error, which `app.main` prints.

CommandError                     exit code 1
├── UsageError                   the command line is not valid; exit code 2
│   ├── ArgumentsError           the arguments of an operation
│   ├── InvalidNameError         the name of a bucket or a key
│   └── OptionError              an option, or the environment variable in its place
├── OutputError                  standard output cannot be written
├── NotConfirmedError            a question was not answered
├── UnreachableError             no NATS server accepted the connection
├── NoAnswerError                a server or a provider did not answer in time
├── ServerRefusedError           the server refused a request
├── PortError                    an address cannot be listened on
├── MissingExtraError            a command needs libraries that are not installed
├── RedisError                   a Redis server cannot be read
├── BucketNotFoundError          there is no bucket of that name
├── BucketUnusableError          the bucket loses acknowledged values
├── BucketDiffersError           a bucket of that name exists with other settings
├── BucketGoneError              the bucket was removed while it was watched
├── KeyNotFoundError             the key has no value, or the bucket does not have that revision
├── WrongRevisionError           another writer was faster
├── NotRevertibleError           an old revision cannot be put again
├── DevError                     the development lattice
│   ├── NatsServerError          nats-server is missing, did not start, or ended
│   ├── ProviderExitError        the provider ended, or never became ready
│   ├── NoLatticeError           no development lattice is running
│   ├── LatticeTakenError        a lattice of that name is already running
│   └── CallFailedError          the provider answered with an error
└── ArchiveError                 a provider archive
├── KeyFileError             a seed cannot be read or stored, or is of the wrong kind
├── MalformedArchiveError    the file is not a provider archive, or hosts could not read it
└── BuildError               the executable for a target cannot be built here
"""

from __future__ import annotations

from provider.errors import ProviderError


class CommandError(ProviderError):
    """The root. The text says what happened and, where possible, what to do."""


# --- the command line


class UsageError(CommandError):
    """The command line is not valid."""


class ArgumentsError(UsageError):
    """The arguments of `call` are not an operation and its arguments; `reason` shows the correct form."""

    reason: str
    text = "{reason}"


class InvalidNameError(UsageError):
    """`what` is `bucket`, `key` or `pattern`."""

    what: str
    name: str
    reason: str
    text = "invalid {what} {name!r}: {reason}"


class OptionError(UsageError):
    """An option of the command line, or the environment variable in its place."""

    option: str
    reason: str
    text = "{option}: {reason}"


class OutputError(CommandError):
    """Standard output cannot be written, e.g. because the disk is full."""

    reason: str
    text = "standard output cannot be written: {reason}"


class NotConfirmedError(CommandError):
    """Standard input ended before the question was answered."""

    text = "not confirmed, nothing was changed; use --force to skip the question"


# --- servers and providers


class UnreachableError(CommandError):
    """`servers` is shown to people: it has no user and no password."""

    servers: str
    reason: str
    text = "cannot connect to NATS at {servers}: {reason}"


class NoAnswerError(CommandError):
    """A server or a provider did not answer in time."""

    reason: str
    text = "{reason}"


class ServerRefusedError(CommandError):
    """`reason` is the server's text."""

    reason: str
    text = "{reason}"


# --- this machine


class PortError(CommandError):
    """An address of this machine cannot be listened on."""

    address: str
    port: int
    reason: str
    text = "cannot listen on {address}, port {port}: {reason}; choose another one with --address and --port"


class MissingExtraError(CommandError):
    """A command needs libraries that are not installed."""

    extra: str
    text = "libraries are missing: pip install 'wasmcloud-keyvalue-nats[{extra}]'"


class RedisError(CommandError):
    """A Redis server cannot be read. `address` has no user and no password."""

    address: str
    reason: str
    text = "Redis at {address}: {reason}"


# --- buckets


class BucketNotFoundError(CommandError):
    """`reason` adds detail; "" means no detail."""

    bucket: str
    reason: str = ""

    def __str__(self) -> str:
        return f"bucket not found: {self.bucket}" + (f" ({self.reason})" if self.reason else "")


class BucketUnusableError(CommandError):
    """The stream of the bucket loses acknowledged values, or takes none. `reason` names the setting."""

    bucket: str
    reason: str
    text = "bucket {bucket} cannot be used: {reason}"


class BucketDiffersError(CommandError):
    """An existing bucket is never changed."""

    bucket: str
    text = "bucket {bucket} already exists with other settings; nothing was changed"


class BucketGoneError(CommandError):
    """The bucket was removed, or removed and created again, during a watch."""

    bucket: str
    text = "bucket {bucket} was removed"


class KeyNotFoundError(CommandError):
    """`revision` is the requested one; 0 means the latest."""

    key: str
    revision: int = 0

    def __str__(self) -> str:
        return f"key not found: {self.key}" + (f" at revision {self.revision}" if self.revision else "")


class WrongRevisionError(CommandError):
    """`current` is the key's revision, of a value or of a marker; 0 means that the key has neither."""

    current: int
    is_create: bool = False

    def __str__(self) -> str:
        return f"wrong last sequence: {self.current}" + (": key exists" if self.is_create else "")


class NotRevertibleError(CommandError):
    """An old revision cannot be put again as it was."""

    reason: str
    text = "cannot revert: {reason}"


# --- the development lattice


class DevError(CommandError):
    """A part of the development lattice failed."""

    reason: str
    text = "{reason}"


class NatsServerError(DevError):
    """nats-server is missing, did not start, or ended."""


class ProviderExitError(DevError):
    """The provider ended, or never became ready."""


class NoLatticeError(DevError):
    """No development lattice is running."""


class LatticeTakenError(DevError):
    """A lattice of that name is already running."""


class CallFailedError(DevError):
    """`reason` is the provider's error text."""


# --- provider archives


class ArchiveError(CommandError):
    """An archive cannot be read or built."""

    reason: str
    text = "{reason}"


class KeyFileError(ArchiveError):
    """The text names the file and never shows its content."""


class MalformedArchiveError(ArchiveError):
    """The file is not a provider archive, or hosts could not read it."""


class BuildError(ArchiveError):
    """The executable for a target cannot be built here."""
