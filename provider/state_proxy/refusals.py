"""The errors that a request can be answered with, and the status of each. Pure."""

from __future__ import annotations

import msgspec

from provider import errors
from provider.state_proxy.http1 import Response

BAD_REQUEST = "bad_request"
UNSUPPORTED_ATTRIBUTE = "unsupported_attribute"
PERMISSION_DENIED = "permission_denied"
KEY_NOT_FOUND = "key_not_found"
NOT_FOUND = "not_found"
METHOD_NOT_ALLOWED = "method_not_allowed"
TOO_SLOW = "request_timeout"
CONFLICT = "conflict"
TOO_LARGE = "too_large"
INTERNAL_ERROR = "internal_error"
NOT_IMPLEMENTED = "not_implemented"
UNAVAILABLE = "unavailable"
TIMEOUT = "timeout"

_STATUS = {
    BAD_REQUEST: 400,
    UNSUPPORTED_ATTRIBUTE: 400,
    PERMISSION_DENIED: 403,
    KEY_NOT_FOUND: 404,
    NOT_FOUND: 404,
    METHOD_NOT_ALLOWED: 405,
    TOO_SLOW: 408,
    CONFLICT: 409,
    TOO_LARGE: 413,
    INTERNAL_ERROR: 500,
    NOT_IMPLEMENTED: 501,
    UNAVAILABLE: 503,
    TIMEOUT: 504,
}

_CODES: dict[type[errors.ProviderError], str] = {
    errors.EmptyKeyError: BAD_REQUEST,
    errors.KeyTooLongError: BAD_REQUEST,
    errors.ValueTooLargeError: TOO_LARGE,
    errors.StoreForbiddenError: PERMISSION_DENIED,
    errors.StoreUnreachableError: UNAVAILABLE,
    errors.LinkUnavailableError: UNAVAILABLE,
    errors.StoreTimeoutError: TIMEOUT,
    errors.OutcomeUnknownError: TIMEOUT,
}
"""The code of each provider error. Any other one, for example of a full or a sealed store, becomes an internal error: the protocol
has no code for it."""


class RequestRefusedError(errors.ProviderError):
    """A request is answered with an error, because it is invalid or cannot be met. `code` is one of this module's."""

    code: str
    reason: str
    text = "{reason}"


class _ErrorBody(msgspec.Struct, frozen=True):
    error: str
    message: str


def refusal_of(error: errors.ProviderError, *, is_connected: bool) -> Response:
    """Return the answer to a request that has failed.

    Args:
        error: A `RequestRefusedError`, a `StoreError` or an `InvocationError`.
        is_connected: Whether NATS can be reached. If it cannot, that explains a timeout, and the code is `unavailable`.
    """
    code = error.code if isinstance(error, RequestRefusedError) else _CODES.get(type(error), INTERNAL_ERROR)
    if code == TIMEOUT and not is_connected:
        code = UNAVAILABLE
    return refusal(code, str(error))


def refusal(code: str, message: str) -> Response:
    return Response(_STATUS[code], msgspec.json.encode(_ErrorBody(code, message)))
