"""An error of the connection or of JetStream -> the `StoreError` that a caller sees. Pure."""

from __future__ import annotations

from provider import errors
from provider.nats.buckets import FORBIDDEN_BY_STREAM, NO_SPACE, STREAM_NOT_FOUND

_PASSING_CODES = frozenset({408, 429, 500, 503})
"""Time-out, too many requests, internal error, unavailable: seen while a cluster elects a leader or a server starts."""


def store_error(error: Exception, waited_seconds: float) -> errors.StoreError:
    """Return the error to answer with after a request was repeated for some seconds without success."""
    return refusal(error) or too_late(error, waited_seconds)


def refusal(error: Exception) -> errors.StoreError | None:
    """Return the error to answer with if repeating the request cannot help; `None` if it may help."""
    if isinstance(error, errors.PermissionsError):
        return errors.StoreForbiddenError(error.reason)
    if not isinstance(error, errors.ApiError):
        return None
    if error.err_code in NO_SPACE:
        return errors.StoreFullError(str(error))
    # A stream that is missing is made anew by the store, or appears once the server that starts has loaded it.
    is_passing = (
        error.code in _PASSING_CODES and error.err_code not in FORBIDDEN_BY_STREAM
    ) or error.err_code == STREAM_NOT_FOUND
    return None if is_passing else errors.StoreRefusedError(str(error))


def too_late(error: Exception, waited_seconds: float) -> errors.StoreError:
    """Return the error to answer with when the deadline has come and the last attempt failed with `error`."""
    if isinstance(error, (errors.RequestTimeoutError, TimeoutError)):
        return errors.StoreTimeoutError(int(waited_seconds * 1000), "the server is connected but does not answer")
    return errors.StoreUnreachableError(str(error))
