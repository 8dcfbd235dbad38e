"""Every exception of the provider, split by who survives it.

    ProviderError
    ├── StartupError                 the process exits with code 1
    ├── LinkError                    the link is refused or waits for its store; other links go on
    ├── InvocationError              this call is answered with an error, before any store was asked
    │   └── InvocationDeniedError    ... because it could not be trusted; one subclass per reason
    ├── StoreError                   this call is answered with an error; `may_retry` says whether a retry may help
    ├── ActorError                   an actor was to be told of a change; it will be told again
    └── NatsError                    what went wrong on a NATS connection; never leaves the process as it is

Each class builds its text from typed fields. No text holds a secret, a value or a server's address.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeVar

_SHOWN_CHARACTERS = 120
_AnyError = TypeVar("_AnyError", bound=BaseException)


def shown(text: str) -> str:
    """Quote a text that came from outside, cut to a length that fits an error."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")


@dataclass(eq=False)
class ProviderError(Exception):
    """The root. `text` is a format string over the fields of the class."""

    text: ClassVar[str]

    def __str__(self) -> str:
        return self.text.format_map(vars(self))


def bare(error: _AnyError) -> _AnyError:
    """Return an exception to be kept: without the frames that it has come through, and all that they hold."""
    error.__traceback__ = error.__context__ = None
    return error


# --- the process exits -----------------------------------------------------------------------------------------------


@dataclass(eq=False)
class StartupError(ProviderError):
    """The provider cannot serve anything."""

    reason: str
    text = "{reason}"


@dataclass(eq=False)
class ConfigError(StartupError):
    """A setting in provider.toml or config_json is unknown or wrong. `where` is its path."""

    where: str
    text = "{where}: {reason}"


# --- the link is refused ---------------------------------------------------------------------------------------------


@dataclass(eq=False)
class LinkError(ProviderError):
    """A link's store cannot be opened. `setting` is the link value at fault, "" when none is."""

    setting: str
    reason: str
    text = "{reason}"

    def __str__(self) -> str:
        return f"link value {self.setting}: {self.reason}" if self.setting else self.reason


# --- the call is refused before a store was asked ----------------------------------------------------------------------


@dataclass(eq=False)
class InvocationError(ProviderError):
    """This call is answered with an error."""


@dataclass(eq=False)
class MalformedInvocationError(InvocationError):
    """The invocation or its argument cannot be decoded."""

    reason: str
    text = "{reason}"


@dataclass(eq=False)
class UnknownOperationError(InvocationError):
    """The contract has no such operation."""

    operation: str

    def __str__(self) -> str:
        return f"unknown operation {shown(self.operation)}"


@dataclass(eq=False)
class OverloadedError(InvocationError):
    """A limit of provider.toml is reached; nothing was done. `limit` is its name."""

    limit: str
    maximum: int
    text = "provider overloaded: {limit} reached, the maximum is {maximum}; nothing was done, try again"


@dataclass(eq=False)
class InvocationTooLargeError(InvocationError):
    """A chunked payload over the limit."""

    size: int
    maximum: int
    text = "payload of {size} bytes is over max_invocation_bytes, the maximum is {maximum}"


@dataclass(eq=False)
class ResponseTooLargeError(InvocationError):
    """What is to be answered does not fit into a message, nor may it travel through the object store."""

    size: int
    maximum: int
    text = "response of {size} bytes cannot be sent: the server's max_payload is {maximum}"


@dataclass(eq=False)
class TooManyKeysError(InvocationError):
    """An operation on more keys than one call may have."""

    count: int
    maximum: int
    text = "{count} keys are over max_keys_per_call, the maximum is {maximum}"


@dataclass(eq=False)
class ChunkError(InvocationError):
    """A payload could not be fetched from, or a response not be put into, the lattice's object store."""

    reason: str
    text = "object store of the lattice: {reason}"


@dataclass(eq=False)
class ShuttingDownError(InvocationError):
    """The host has asked the provider to stop."""

    text = "provider is shutting down; nothing was done"


@dataclass(eq=False)
class LinkUnavailableError(InvocationError):
    """The link is known, but its store is not open. `reason` is that of the last attempt."""

    reason: str
    text = "link is not available: {reason}; nothing was done"


@dataclass(eq=False)
class InternalError(InvocationError):
    """A defect of the provider. `kind` is the class of the unexpected exception; its text is only in the log."""

    kind: str
    text = "internal error ({kind}); outcome unknown"


@dataclass(eq=False)
class InvocationDeniedError(InvocationError):
    """The invocation cannot be trusted. In the order of the reference: wasmbus-rpc v0.15, then this provider's own."""


@dataclass(eq=False)
class ClaimsMalformedError(InvocationDeniedError):
    """The token is no token of wascap."""

    reason: str
    text = "invocation claims are malformed: {reason}"


@dataclass(eq=False)
class ClaimsExpiredError(InvocationDeniedError):
    """`exp` has passed."""

    text = "invocation claims token expired"


@dataclass(eq=False)
class SignatureInvalidError(InvocationDeniedError):
    """The token was not signed with the key that it names as its issuer."""

    text = "invocation claims signature invalid"


@dataclass(eq=False)
class ClaimsNotYetValidError(InvocationDeniedError):
    """`nbf` has not come."""

    text = "attempt to use invocation before claims token allows"


@dataclass(eq=False)
class WascapMissingError(InvocationDeniedError):
    """The claims name no URLs and no hash."""

    text = "no wascap metadata found on invocation claims"


@dataclass(eq=False)
class HashMismatchError(InvocationDeniedError):
    """The payload, operation or URLs are not those that were signed."""

    text = "invocation hash does not match signed claims hash"


@dataclass(eq=False)
class HostIdInvalidError(InvocationDeniedError):
    """`host_id` is not a key of a host or a cluster."""

    host_id: str

    def __str__(self) -> str:
        return f"invalid host ID on invocation: {shown(self.host_id)}"


@dataclass(eq=False)
class TargetUrlMismatchError(InvocationDeniedError):
    """The signed target is another one."""

    text = "invocation claims and invocation target URL do not match"


@dataclass(eq=False)
class OriginUrlMismatchError(InvocationDeniedError):
    """The signed origin is another one."""

    text = "invocation claims and invocation origin URL do not match"


@dataclass(eq=False)
class IssuerUnknownError(InvocationDeniedError):
    """Signed with a key that is not the cluster's."""

    text = "issuer of this invocation is not in list of cluster issuers"


@dataclass(eq=False)
class TargetKeyMismatchError(InvocationDeniedError):
    """Addressed to another provider."""

    target: str

    def __str__(self) -> str:
        return f"target of the invocation was {shown(self.target)}, which is not this provider"


@dataclass(eq=False)
class UnlinkedActorError(InvocationDeniedError):
    """The actor has no link to this provider, under the link name and contract that the invocation names."""

    actor_id: str

    def __str__(self) -> str:
        return f"unlinked actor: {shown(self.actor_id)} is not linked to this provider"


@dataclass(eq=False)
class LinkNameMismatchError(InvocationDeniedError):
    """Addressed to a link name that another process serves."""

    link_name: str

    def __str__(self) -> str:
        return f"target link name of the invocation was {shown(self.link_name)}, which this provider does not serve"


@dataclass(eq=False)
class ContractMismatchError(InvocationDeniedError):
    """The actor is linked, but not under the contract that the invocation names."""

    contract_id: str

    def __str__(self) -> str:
        return f"actor is not linked to this provider under contract {shown(self.contract_id)}"


@dataclass(eq=False)
class SubjectMismatchError(InvocationDeniedError):
    """The claims were made for another invocation."""

    text = "invocation claims subject does not match the invocation id"


@dataclass(eq=False)
class ClaimsTooOldError(InvocationDeniedError):
    """Issued longer ago than replays are remembered."""

    difference_seconds: int
    accepted_seconds: int
    text = (
        "invocation claims were issued {difference_seconds} seconds ago by this provider's clock, "
        "more than the accepted age of {accepted_seconds} seconds"
    )


@dataclass(eq=False)
class ClaimsTooEarlyError(InvocationDeniedError):
    """Issued in the future, further than clocks may differ."""

    difference_seconds: int
    accepted_seconds: int
    text = (
        "invocation claims were issued {difference_seconds} seconds ahead of this provider's clock, "
        "more than the accepted lead of {accepted_seconds} seconds"
    )


@dataclass(eq=False)
class ReplayedError(InvocationDeniedError):
    """An invocation of this id has been accepted before."""

    text = "invocation id was used before"


# --- the store says no -------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class ActorError(ProviderError):
    """An actor was to be called with something; `reason` says what became of that."""

    reason: str
    text = "{reason}"


@dataclass(eq=False)
class ActorUnreachableError(ActorError):
    """It was not called."""

    text = "actor cannot be called: {reason}"


@dataclass(eq=False)
class ActorFailedError(ActorError):
    """It did not say that it is done."""

    text = "actor failed: {reason}"


@dataclass(eq=False)
class StoreError(ProviderError):
    """This call is answered with an error. Unless it is an `OutcomeUnknownError`, nothing was changed."""

    may_retry: ClassVar[bool] = False


@dataclass(eq=False)
class BadCursorError(StoreError):
    """A page was asked for with a cursor that no page gave."""

    cursor: str
    text = "cursor {cursor!r} is none that ListKeys gave"


@dataclass(eq=False)
class UnsupportedError(StoreError):
    """The link's store does not do that."""

    operation: str
    reason: str
    text = "{operation} is not for this link: {reason}"


@dataclass(eq=False)
class EmptyKeyError(StoreError):
    """The key is the empty text."""

    text = "key is empty"


@dataclass(eq=False)
class KeyTooLongError(StoreError):
    """`size` and `maximum` are in bytes of the key as it is stored."""

    size: int
    maximum: int
    text = "key of {size} bytes as stored is too long, the maximum is {maximum} bytes"


@dataclass(eq=False)
class ValueTooLargeError(StoreError):
    """`size` and `maximum` are in bytes, headers included. `limit` names who sets the maximum."""

    key: str
    size: int
    limit: str
    maximum: int

    def __str__(self) -> str:
        return (
            f"value of key {shown(self.key)} would take {self.size} bytes in all, "
            f"over {self.limit}: the maximum is {self.maximum} bytes"
        )


@dataclass(eq=False)
class TooMuchAtOnceError(StoreError):
    """The values that one call reads are too large together. `maximum` is in bytes."""

    count: int
    maximum: int
    text = "values of {count} keys are over {maximum} bytes together, the maximum of one call; ask for fewer at once"


@dataclass(eq=False)
class WrongKindError(StoreError):
    """The operation is for another kind of value."""

    key: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"key {shown(self.key)} holds a {self.found}, but the operation is for a {self.wanted}"


@dataclass(eq=False)
class NotANumberError(StoreError):
    """The text at the key is not a decimal number."""

    key: str

    def __str__(self) -> str:
        return f"key {shown(self.key)} holds a text that is not a decimal number, but the operation is for a counter"


@dataclass(eq=False)
class CounterOverflowError(StoreError):
    """The number, or what it would become, does not fit in 32 bits with a sign."""

    key: str
    total: int
    minimum: int
    maximum: int

    def __str__(self) -> str:
        total = self.total if abs(self.total) < 10**30 else "a number of many digits"
        return f"counter {shown(self.key)} would be {total}, outside of {self.minimum} to {self.maximum}"


@dataclass(eq=False)
class StoreFullError(StoreError):
    """The bucket or the account has no room. `reason` is the server's."""

    reason: str
    text = "store is full: {reason}; nothing was changed"


@dataclass(eq=False)
class CacheFullError(StoreError):
    """A cache is at one of its limits. `limit` is the link value, `size` what there would be, in `unit`."""

    limit: str
    size: int
    maximum: int
    unit: str
    text = "cache is full: there would be {size} {unit}, over {limit}: the maximum is {maximum}; nothing was changed"


@dataclass(eq=False)
class StoreRefusedError(StoreError):
    """The server refused the request. `reason` is the server's."""

    reason: str
    text = "store refused: {reason}; nothing was changed"


@dataclass(eq=False)
class StoreUnreachableError(StoreError):
    """The store could not be asked in time; nothing was changed."""

    reason: str
    text = "store unreachable: {reason}; nothing was changed"
    may_retry = True


@dataclass(eq=False)
class StoreTimeoutError(StoreError):
    """The store did not answer in time; nothing was changed."""

    waited_ms: int
    reason: str
    text = "store timeout: no answer within {waited_ms} ms ({reason}); nothing was changed"
    may_retry = True


@dataclass(eq=False)
class OutcomeUnknownError(StoreError):
    """A write was sent and what became of it could not be learnt in time."""

    reason: str
    text = "outcome unknown: {reason}; the change may or may not have been made"


# --- NATS ------------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class NatsError(ProviderError):
    """Something on a NATS connection; the caller turns it into a `LinkError`, a `StoreError` or a `StartupError`."""


@dataclass(eq=False)
class NotConnectedError(NatsError):
    """The connection is down; nothing was sent."""

    text = "not connected to NATS"


@dataclass(eq=False)
class MessageTooLargeError(NatsError):
    """Headers and payload are over the server's limit; nothing was sent, or the server would end the connection."""

    size: int
    maximum: int
    text = "message of {size} bytes is over the server's max_payload: the maximum is {maximum}"


@dataclass(eq=False)
class ConnectionLostError(NatsError):
    """The connection went down while a request was out: it may have been carried out."""

    text = "connection to NATS lost"


@dataclass(eq=False)
class RequestTimeoutError(NatsError):
    """No reply in time: the request may have been carried out."""

    text = "no reply from NATS in time"


@dataclass(eq=False)
class NoRespondersError(NatsError):
    """Nobody serves the subject: the request was not carried out."""

    text = "no JetStream server answers"


@dataclass(eq=False)
class PermissionsError(NatsError):
    """The user of the connection may not do that. `reason` is the server's."""

    reason: str
    text = "{reason}"


@dataclass(eq=False)
class ConnectError(NatsError):
    """No connection could be made.

    Attributes:
        reason: What went wrong, without an address.
        is_credentials: The server refused the user.
        is_tls: One side refused the other's certificate.
        is_dropped: The server ended the connection without a word.
    """

    reason: str
    is_credentials: bool = False
    is_tls: bool = False
    is_dropped: bool = False
    text = "{reason}"


@dataclass(eq=False)
class ApiError(NatsError):
    """JetStream answered with an error.

    Attributes:
        code: Like an HTTP status.
        err_code: The server's own number, e.g. 10071 "wrong last sequence"; 0 when it gave none.

    Source: nats-server server/errors.json.
    """

    code: int
    err_code: int
    description: str
    text = "{description} ({err_code})"
