"""Every exception of the provider, split by consequence.

    ProviderError
    ├── StartupError                 the process exits with code 1
    │   └── ConfigError              ... because of a setting in provider.toml or config_json
    ├── LinkError                    the link is refused or waits for its store; other links continue
    ├── InvocationError              this call is answered with an error, before a store was asked
    │   └── InvocationDeniedError    ... because it cannot be trusted; one subclass per reason
    ├── StoreError                   this call is answered with an error; if unsure, OutcomeUnknownError
    ├── ActorError                   a call of an actor did not succeed; the change will be delivered again
    └── NatsError                    a failure on a NATS connection; its caller turns it into one of the above

A class declares its fields and, in `text`, a template over them. No text holds a secret, a value or a server's address.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar, dataclass_transform

_QUOTED_CHARACTERS = 120
"""An error that reaches an actor or a log stays one line, whatever a caller sent."""

_AnyError = TypeVar("_AnyError", bound=BaseException)


def shown(text: str) -> str:
    """Quote a text that came from outside, cut to a length that fits an error."""
    return repr(text if len(text) <= _QUOTED_CHARACTERS else text[:_QUOTED_CHARACTERS] + "…")


class _Text(str):
    """A text in a template: `{name}` inserts it unchanged, `{name!r}` inserts it as `shown` returns it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return shown(str(self))


@dataclass_transform(eq_default=False)
class ProviderError(Exception):
    """The root. The annotations of every subclass are its fields, as in a dataclass.

    `dataclasses` would compile functions for each of a hundred classes at every start, which takes longer than the start of
    Python itself.

    Attributes:
        fields: Names of the fields, those of the parent first.
    """

    text: ClassVar[str]
    fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        own = vars(cls).get("__annotations__", {})
        cls.fields = (*cls.fields, *(name for name, type_ in own.items() if not type_.startswith("ClassVar")))

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given)
        values = dict(zip(self.fields, given, strict=False)) | named
        for name in self.fields:
            if name not in values and not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} needs {name}")
            setattr(self, name, values.pop(name) if name in values else getattr(type(self), name))
        if values or len(given) > len(self.fields):
            raise TypeError(f"{type(self).__name__} has only the fields {self.fields}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.fields)})"

    def __str__(self) -> str:
        fields = vars(self)
        if "!r" in self.text:
            fields = {name: _Text(value) if isinstance(value, str) else value for name, value in fields.items()}
        return self.text.format_map(fields)


def bare(error: _AnyError) -> _AnyError:
    """Remove traceback and context from an exception that will be kept, since they keep every frame alive."""
    error.__traceback__ = error.__context__ = None
    return error


# --- the process exits


class StartupError(ProviderError):
    """The provider cannot serve anything."""

    reason: str
    text = "{reason}"


class ConfigError(StartupError):
    """A setting is unknown or wrong. `where` is its path."""

    where: str
    text = "{where}: {reason}"


# --- the link is refused


class LinkError(ProviderError):
    """A link's store cannot be opened. `setting` is the link value at fault, or ""."""

    setting: str
    reason: str

    def __str__(self) -> str:
        return f"link value {self.setting}: {self.reason}" if self.setting else self.reason


# --- the call is refused before a store was asked


class InvocationError(ProviderError):
    """This call is answered with an error."""


class MalformedInvocationError(InvocationError):
    """The invocation or its argument cannot be decoded."""

    reason: str
    text = "{reason}"


class OverloadedError(InvocationError):
    """A limit is reached. `limit` is its name in provider.toml."""

    limit: str
    maximum: int
    text = "provider overloaded: {limit} reached, the maximum is {maximum}; nothing was done, try again"


class InvocationTooLargeError(InvocationError):
    """A chunked payload is over the limit. Sizes are in bytes."""

    size: int
    maximum: int
    text = "payload of {size} bytes is over max_invocation_bytes, the maximum is {maximum}"


class ResponseTooLargeError(InvocationError):
    """A response does not fit into a message and may not travel through the object store. Sizes are in bytes."""

    size: int
    maximum: int
    text = "response of {size} bytes cannot be sent: the server's max_payload is {maximum}"


class TooManyKeysError(InvocationError):
    """The call names more keys than one call may have."""

    count: int
    maximum: int
    text = "{count} keys are over max_keys_per_call, the maximum is {maximum}"


class ChunkError(InvocationError):
    """A payload could not be read from the lattice's object store, or a response could not be written to it."""

    reason: str
    text = "object store of the lattice: {reason}"


class NoRoomError(InvocationError):
    """Other large payloads were being served for as long as this one could wait."""

    size: int
    maximum: int
    text = "no room for a payload of {size} bytes in time: others take the {maximum} of max_invocation_bytes; nothing was done"


class ShuttingDownError(InvocationError):
    """The host has asked the provider to stop."""

    text = "provider is shutting down; nothing was done"


class LinkUnavailableError(InvocationError):
    """The link is known, but its store is not open. `reason` is that of the last attempt to open it."""

    reason: str
    text = "link is not available: {reason}; nothing was done"


class InternalError(InvocationError):
    """The provider has a defect. `kind` is the class of the unexpected exception; its text is only logged."""

    kind: str
    text = "internal error ({kind}); outcome unknown"


# --- ... because it cannot be trusted; first come the reasons of wasmbus-rpc v0.15, in its order


class InvocationDeniedError(InvocationError):
    """The invocation cannot be trusted."""


class ClaimsMalformedError(InvocationDeniedError):
    """The token cannot be read."""

    reason: str
    text = "invocation claims are malformed: {reason}"


class ClaimsExpiredError(InvocationDeniedError):
    """`exp` has passed."""

    text = "invocation claims token expired"


class SignatureInvalidError(InvocationDeniedError):
    """The token was not signed with the key that it names as its issuer."""

    text = "invocation claims signature invalid"


class ClaimsNotYetValidError(InvocationDeniedError):
    """`nbf` lies ahead."""

    text = "attempt to use invocation before claims token allows"


class WascapMissingError(InvocationDeniedError):
    """The claims name no URLs and no hash."""

    text = "no wascap metadata found on invocation claims"


class HashMismatchError(InvocationDeniedError):
    """The payload, the operation or the URLs are not those that were signed."""

    text = "invocation hash does not match signed claims hash"


class HostIdInvalidError(InvocationDeniedError):
    """`host_id` is not the key of a host or a cluster."""

    host_id: str
    text = "invalid host ID on invocation: {host_id!r}"


class TargetUrlMismatchError(InvocationDeniedError):
    """Another target was signed."""

    text = "invocation claims and invocation target URL do not match"


class OriginUrlMismatchError(InvocationDeniedError):
    """Another origin was signed."""

    text = "invocation claims and invocation origin URL do not match"


class IssuerUnknownError(InvocationDeniedError):
    """The issuer is not one of the cluster."""

    text = "issuer of this invocation is not in list of cluster issuers"


class TargetKeyMismatchError(InvocationDeniedError):
    """The invocation is addressed to another provider."""

    target: str
    text = "target of the invocation was {target!r}, which is not this provider"


class UnlinkedActorError(InvocationDeniedError):
    """The actor has no link to this provider."""

    actor_id: str
    text = "unlinked actor: {actor_id!r} is not linked to this provider"


class UnlinkedComponentError(InvocationDeniedError):
    """The component has no link of this name to this provider. Both texts are as its host gave them."""

    source_id: str
    link_name: str
    text = "component {source_id!r} is not linked to this provider under the link name {link_name!r}"


class SourceMissingError(InvocationDeniedError):
    """A call over wRPC does not say which component makes it."""

    text = "the call has no header source-id, which names the component"


class UnsafeReplySubjectError(InvocationDeniedError):
    """The caller wants the answer on a subject that is not an inbox. It is not answered."""

    text = "the subject for the answer is not an inbox"


class LinkNameMismatchError(InvocationDeniedError):
    """The invocation is addressed to a link name that another process serves."""

    link_name: str
    text = "target link name of the invocation was {link_name!r}, which this provider does not serve"


class ContractMismatchError(InvocationDeniedError):
    """The actor is linked, but not under the contract that the invocation names."""

    contract_id: str
    text = "actor is not linked to this provider under contract {contract_id!r}"


class SubjectMismatchError(InvocationDeniedError):
    """The claims were made for another invocation."""

    text = "invocation claims subject does not match the invocation id"


class ClaimsTooOldError(InvocationDeniedError):
    """The claims are older than the memory of invocation ids reaches back."""

    difference_seconds: int
    accepted_seconds: int
    text = (
        "invocation claims were issued {difference_seconds} seconds ago by this provider's clock, "
        "more than the accepted age of {accepted_seconds} seconds"
    )


class ClaimsTooEarlyError(InvocationDeniedError):
    """The claims were issued further in the future than clocks may differ."""

    difference_seconds: int
    accepted_seconds: int
    text = (
        "invocation claims were issued {difference_seconds} seconds ahead of this provider's clock, "
        "more than the accepted lead of {accepted_seconds} seconds"
    )


class ReplayedError(InvocationDeniedError):
    """An invocation of this id has been accepted before."""

    text = "invocation id was used before"


# --- the store refuses or fails


class StoreError(ProviderError):
    """This call is answered with an error. Unless it is an `OutcomeUnknownError`, nothing was changed."""


class BadCursorError(StoreError):
    """The cursor was not made by ListKeys."""

    cursor: str
    text = "cursor {cursor!r} was not given by ListKeys"


class NoSuchStoreError(StoreError):
    """A component has opened a store by a name that its link does not have."""

    name: str

    def __str__(self) -> str:
        return f"there is no store {shown(self.name)} behind this link; its own name is default"


class NotAllDoneError(StoreError):
    """Some changes of one call were not made. The others were."""

    failed: int
    total: int
    done: str
    reason: str
    text = "{failed} of {total} keys were not {done}; the first: {reason}"


class EmptyKeyError(StoreError):
    """The key is the empty text."""

    text = "key is empty"


class KeyTooLongError(StoreError):
    """The key is too long. Sizes are in bytes of the stored form of the key."""

    size: int
    maximum: int
    text = "key of {size} bytes as stored is too long, the maximum is {maximum} bytes"


class ValueTooLargeError(StoreError):
    """The value is too large. Sizes are in bytes, headers included; `limit` names the setting behind the maximum."""

    key: str
    size: int
    limit: str
    maximum: int
    text = "value of key {key!r} would take {size} bytes in all, over {limit}: the maximum is {maximum} bytes"


class TooMuchAtOnceError(StoreError):
    """The values that one call reads are too large together. `maximum` is in bytes."""

    count: int
    maximum: int
    text = "values of {count} keys are over {maximum} bytes together, the maximum of one call; ask for fewer at once, and for a large one alone"


class AnswerTooLargeError(StoreError):
    """The answer of a call would be too large. `size` is at least that, in bytes; `advice` begins with a semicolon."""

    operation: str
    size: int
    maximum: int
    advice: str = ""
    text = (
        "answer of {operation} would take {size} bytes, over max_answer_bytes: the maximum is {maximum} bytes{advice}"
    )


class ElementTooLargeError(StoreError):
    """An element is too large for a list or a set. Sizes are in bytes."""

    key: str
    size: int
    maximum: int
    text = "element of {size} bytes for key {key!r} is over half of the server's max_payload: the maximum is {maximum} bytes"


class CollectionFullError(StoreError):
    """A list or a set would have too much in it. `unit` is that of the size and the maximum."""

    key: str
    size: int
    unit: str
    maximum: int
    text = "key {key!r} would have {size} {unit}, and a list or a set has {maximum} at most; nothing was changed"


class DamagedValueError(StoreError):
    """A page of a value is missing, or is not what a provider could have written. `reason` says which."""

    key: str
    page: str
    reason: str
    text = "value of key {key!r} is damaged: page {page!r} {reason}; it can be deleted or set anew"


class WrongKindError(StoreError):
    """The operation is for another kind of value."""

    key: str
    found: str
    wanted: str
    text = "key {key!r} holds a {found}, but the operation is for a {wanted}"


class NotANumberError(StoreError):
    """The text at the key is not a decimal number."""

    key: str
    text = "key {key!r} holds a text that is not a decimal number, but the operation is for a counter"


class CounterOverflowError(StoreError):
    """The number, or the result of the change, is out of range: of 32 bits with a sign, or of 64 bits without one."""

    key: str
    total: int
    minimum: int
    maximum: int

    def __str__(self) -> str:
        total = self.total if abs(self.total) < 10**30 else "a number of many digits"  # str() refuses 4,300 digits
        return f"counter {shown(self.key)} would be {total}, outside of {self.minimum} to {self.maximum}"


class StoreFullError(StoreError):
    """The bucket or the account has no room. `reason` is the server's."""

    reason: str
    text = "store is full: {reason}; nothing was changed"


class CacheFullError(StoreError):
    """A cache is at one of its limits. `limit` is the link value, `size` the amount after the change, in `unit`."""

    limit: str
    size: int
    maximum: int
    unit: str
    text = "cache is full: there would be {size} {unit}, over {limit}: the maximum is {maximum}; nothing was changed"


class StoreRefusedError(StoreError):
    """The server refused the request. `reason` is the server's."""

    reason: str
    text = "store refused: {reason}; nothing was changed"


class StoreForbiddenError(StoreRefusedError):
    """The permissions of the connection's user do not allow the request."""


class StoreUnreachableError(StoreError):
    """The store could not be asked in time."""

    reason: str
    text = "store unreachable: {reason}; nothing was changed"


class StoreTimeoutError(StoreError):
    """The store did not answer in time."""

    waited_ms: int
    reason: str
    text = "store timeout: no answer within {waited_ms} ms ({reason}); nothing was changed"


class OutcomeUnknownError(StoreError):
    """A write was sent, and its result could not be learnt in time."""

    reason: str
    text = "outcome unknown: {reason}; the change may or may not have been made"


# --- the call of an actor did not succeed


class ActorError(ProviderError):
    """A change could not be delivered to an actor."""

    reason: str


class ActorUnreachableError(ActorError):
    """The actor was not called."""

    text = "actor cannot be called: {reason}"


class ActorFailedError(ActorError):
    """The actor was called and did not confirm."""

    text = "actor failed: {reason}"


# --- NATS


class NatsError(ProviderError):
    """A failure on a NATS connection. The caller turns it into a `LinkError`, a `StoreError` or a `StartupError`."""


class NotConnectedError(NatsError):
    """The connection is down; nothing was sent."""

    text = "not connected to NATS"


class MessageTooLargeError(NatsError):
    """Headers and payload are over the server's limit; nothing was sent, since the server would end the connection."""

    size: int
    maximum: int
    text = "message of {size} bytes is over the server's max_payload: the maximum is {maximum}"


class ConnectionLostError(NatsError):
    """The connection broke while a request was in flight; the request may have been carried out."""

    text = "connection to NATS lost"


class RequestTimeoutError(NatsError):
    """No reply came in time; the request may have been carried out."""

    text = "no reply from NATS in time"


class NoRespondersError(NatsError):
    """The subject has no subscriber; the request was not carried out."""

    text = "no JetStream server answers"


class UnexpectedReplyError(NatsError):
    """The reply is not of the kind that was requested, so another sender may have made it; the outcome is unknown."""

    text = "answer that is not JetStream's"


class PermissionsError(NatsError):
    """The user of the connection lacks a permission; the request was not carried out. `reason` is the server's."""

    reason: str
    text = "{reason}"


class ConnectError(NatsError):
    """A connection could not be made.

    Attributes:
        reason: The cause, without an address.
        is_credentials: The server refused the user.
        is_tls: One side refused the other's certificate.
        is_dropped: The server ended the connection without a message.
    """

    reason: str
    is_credentials: bool = False
    is_tls: bool = False
    is_dropped: bool = False
    text = "{reason}"


class ApiError(NatsError):
    """JetStream answered with an error.

    Attributes:
        code: A status as in HTTP.
        err_code: The server's own number, e.g. 10071 "wrong last sequence"; 0 if it gave no number.

    Source: nats-server server/errors.json.
    """

    code: int
    err_code: int
    description: str
    text = "{description} ({err_code})"
