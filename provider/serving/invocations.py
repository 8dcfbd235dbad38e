"""The calls of wasmbus hosts: signed invocations, each with one reply, in the object store if it is too long for a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contracts import operations
from contracts.lattice import CHUNK_THRESHOLD_BYTES, encode_failure, encode_success
from contracts.long_values import LongBytes
from provider import errors
from provider.keyvalue.store import complete
from provider.lattice.chunks import ChunkStore
from provider.lattice.protocol import InvocationAccepted
from provider.serving.calls import ServedCall
from provider.tasks import TaskOwner

SHOWN_ID_CHARACTERS = 256
"""The length to which an error's reply repeats the invocation's id; a host's ids have 36 characters."""

_SHOWN_OPERATION_CHARACTERS = 100
"""The length to which an error text repeats the operation's name; the longest of the contract has 29 characters."""


class InvocationCall(ServedCall, eq=False, kw_only=True):
    """An invocation being served.

    Attributes:
        event: The verified invocation.
        reply_subject: NATS subject of the reply; b"" if the caller wants none.
        replies: The way back to the caller.
    """

    event: InvocationAccepted
    reply_subject: bytes
    replies: InvocationReplies

    def answer(self, result: Any) -> None:
        if not self.is_done:
            self.replies.succeed(self, operations.encode_response(result))

    def send_failure(self, error: BaseException) -> None:
        text = f"{self.operation[:_SHOWN_OPERATION_CHARACTERS]}: {error}"
        failure = encode_failure(self.event.invocation.id[:SHOWN_ID_CHARACTERS], text)
        self.replies.reply(self.reply_subject, failure)

    @property
    def trace_context(self) -> dict[str, str] | None:
        context = self.event.invocation.trace_context
        return context if isinstance(context, dict) else None


class InvocationReplies:
    """The replies to invocations.

    Args:
        chunks: The object store for payloads that are too large for a message.
        reply: Publishes a reply to a subject; raises `errors.MessageTooLargeError`.
        tasks: Owner of the tasks that send large answers.
    """

    def __init__(self, chunks: ChunkStore, reply: Callable[[bytes, bytes], None], tasks: TaskOwner) -> None:
        self.reply = reply
        self._chunks = chunks
        self._tasks = tasks

    def succeed(self, call: InvocationCall, response: bytes | LongBytes) -> None:
        """Reply with an encoded result. A result that is too large for a message travels in chunks, and later."""
        if len(response) > CHUNK_THRESHOLD_BYTES:
            size_bytes = len(response)
            put = self._put_chunks(call, response)
            sent = complete(call, put, lambda _: self._reply_success(call, b"", size_bytes))
            self._tasks.start(sent, "send a large answer")
        else:
            self._reply_success(call, bytes(response), len(response))

    async def _put_chunks(self, call: InvocationCall, response: bytes | LongBytes) -> None:
        try:
            await self._chunks.put(f"{call.event.invocation.id}-r", response, call.deadline)
        except errors.ChunkError as error:
            if not call.is_change:
                raise
            raise errors.OutcomeUnknownError(f"its answer could not be sent: {error}") from None

    def _reply_success(self, call: InvocationCall, response: bytes, size_bytes: int) -> None:
        try:
            self.reply(call.reply_subject, encode_success(call.event.invocation.id, response, size_bytes))
        except errors.MessageTooLargeError as error:  # the server's limit is lower than the lattice's chunk size
            call.fail(_unsent(call, error))
            return
        call.calls.end(call, size_bytes, None)


def _unsent(call: InvocationCall, error: errors.MessageTooLargeError) -> errors.ProviderError:
    """Return the error of a call that was carried out and whose answer is too large to send."""
    too_large = errors.ResponseTooLargeError(error.size, error.maximum)
    return errors.OutcomeUnknownError(str(too_large)) if call.is_change else too_large
