"""What can go wrong with a provider archive. A person reads every one of these.

ArchiveError
├── KeyFileError             a seed cannot be read or kept, or is of the wrong kind
├── MalformedArchiveError    a file is no provider archive, or has something in it that hosts would choke on
└── BuildError               the executable for a target cannot be made here
"""

from __future__ import annotations


class ArchiveError(Exception):
    """The root; its text says what happened and what to do."""


class KeyFileError(ArchiveError):
    """Names the file, never what is in it."""


class MalformedArchiveError(ArchiveError):
    pass


class BuildError(ArchiveError):
    pass
