"""What can go wrong with a bucket at the keyboard. A person reads every one of these.

KvError
├── InvalidNameError       what was typed is no name of a bucket or a key
├── OptionError            what was typed beside it cannot be used
├── UnreachableError       no server could be connected to
├── NoAnswerError          the server is there but does not answer, or stopped answering
├── RefusedError           the server says no
├── BucketNotFoundError    there is none of that name
├── BucketDiffersError     there is one of that name with other settings
├── BucketGoneError        it was removed while it was watched
├── KeyNotFoundError       nothing stands under the key, or not that revision
├── WrongRevisionError     a compare-and-set lost
└── NotRevertibleError     an old revision cannot be put again
"""

from __future__ import annotations

from dataclasses import dataclass

from provider.errors import ProviderError, shown


@dataclass(eq=False)
class KvError(ProviderError):
    """The root."""


@dataclass(eq=False)
class InvalidNameError(KvError):
    """`what` is `bucket`, `key` or `pattern`."""

    what: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"invalid {self.what} {shown(self.name)}: {self.reason}"


@dataclass(eq=False)
class OptionError(KvError):
    """An option of the command line, or the environment variable that stands for it."""

    option: str
    reason: str
    text = "{option}: {reason}"


@dataclass(eq=False)
class UnreachableError(KvError):
    """`servers` is for people: without a user or a password."""

    servers: str
    reason: str
    text = "cannot connect to NATS at {servers}: {reason}"


@dataclass(eq=False)
class NoAnswerError(KvError):
    """Nobody answers for JetStream in time."""

    reason: str
    text = "{reason}"


@dataclass(eq=False)
class RefusedError(KvError):
    """`reason` is the server's."""

    reason: str
    text = "{reason}"


@dataclass(eq=False)
class BucketNotFoundError(KvError):
    """`reason` says more, or nothing."""

    bucket: str
    reason: str = ""

    def __str__(self) -> str:
        return f"bucket not found: {self.bucket}" + (f" ({self.reason})" if self.reason else "")


@dataclass(eq=False)
class BucketDiffersError(KvError):
    """A bucket that is there is not changed."""

    bucket: str
    text = "bucket {bucket} exists already, with other settings; nothing was changed"


@dataclass(eq=False)
class BucketGoneError(KvError):
    """It was removed, or made anew, while somebody watched."""

    bucket: str
    text = "bucket {bucket} was removed"


@dataclass(eq=False)
class KeyNotFoundError(KvError):
    """`revision` is the one asked for; 0: the last."""

    key: str
    revision: int = 0

    def __str__(self) -> str:
        return f"key not found: {self.key}" + (f" at revision {self.revision}" if self.revision else "")


@dataclass(eq=False)
class WrongRevisionError(KvError):
    """`standing` is the revision under the key, of a value or a marker; 0: nothing stands there."""

    standing: int
    is_create: bool = False

    def __str__(self) -> str:
        return f"wrong last sequence: {self.standing}" + (": key exists" if self.is_create else "")


@dataclass(eq=False)
class NotRevertibleError(KvError):
    """An old revision that cannot be put again as it was."""

    reason: str
    text = "cannot revert: {reason}"
