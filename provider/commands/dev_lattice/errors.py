"""What can go wrong in a development lattice. A person reads every one of these.

DevError
├── NatsServerError      no nats-server, it does not come up, or it ended
├── ProviderExitError    the provider ended or never served
├── NoLatticeError       `call` found no running development lattice
├── LatticeTakenError    one of that name is running
├── NoAnswerError        an invocation that nobody answered
└── CallFailedError      an invocation that the provider answered with an error
"""

from __future__ import annotations


class DevError(Exception):
    """The root; its text says what happened and what to do."""


class NatsServerError(DevError):
    pass


class ProviderExitError(DevError):
    pass


class NoLatticeError(DevError):
    pass


class LatticeTakenError(DevError):
    pass


class NoAnswerError(DevError):
    pass


class CallFailedError(DevError):
    """The provider's own words."""
