"""The program of a helper process: it checks the signatures of one batch after the other until the provider is gone.

The provider reads this module's code when it starts and sends it to each helper, since an archive's files may have been
replaced by the time that a helper is started again. So the module imports nothing of the project, and nothing that a
bare interpreter has not loaded anyway: a helper takes 10 MB.
"""

from __future__ import annotations

import os
import sys
from _collections_abc import Callable  # `collections.abc` would load a dozen modules

NUMBER_BYTES = 4
COUNT_BYTES = 2
HEAD_BYTES = NUMBER_BYTES + COUNT_BYTES
"""A batch and its answer begin with the number of the batch and the number of its tokens, in network order."""

LENGTH_BYTES = 2
KEY_BYTES = 32
SIGNATURE_BYTES = 64

READY = bytes(HEAD_BYTES)
"""The first message of a helper, once it can check signatures: the answer to no batch."""

LARGEST_PACKET_BYTES = 96 * 1024
"""More than the largest batch of the provider: 32 tokens of 2 KiB, with their keys and signatures. From 128 KiB on, the
allocator would get the memory for each read from the system."""


def answer(batch: bytes, verify: Callable[[bytes, bytes, bytes], bool]) -> bytes:
    """Return the answer to a batch: its head, then a byte for each token, 1 if the signature is valid, else 0.

    Args:
        batch: Head, then for each token the key, the signature, the length of the signed bytes, and these bytes.
        verify: Function of signature, signed bytes and key.
    """
    verdicts, position = [], HEAD_BYTES
    while position < len(batch):
        signature_at = position + KEY_BYTES
        length_at = signature_at + SIGNATURE_BYTES
        start = length_at + LENGTH_BYTES
        stop = start + int.from_bytes(batch[length_at:start], "big")
        is_valid = verify(batch[signature_at:length_at], batch[start:stop], batch[position:signature_at])
        verdicts.append(1 if is_valid is True else 0)
        position = stop
    return batch[:HEAD_BYTES] + bytes(verdicts)


def main() -> None:
    """Load the signature library and serve. Arguments: the descriptors of the socket and of the library's file.

    The socket keeps messages apart. Its end is read as b"": the provider is gone, or wants this process to end.
    """
    from importlib.machinery import ExtensionFileLoader, ModuleSpec  # noqa: PLC0415  (only in a helper process)

    socket, library = int(sys.argv[1]), int(sys.argv[2])
    path = f"/proc/self/fd/{library}"
    loader = ExtensionFileLoader("ed25519_zebra", path)
    module = loader.create_module(ModuleSpec("ed25519_zebra", loader, origin=path))
    loader.exec_module(module)
    os.close(library)
    os.write(socket, READY)
    while batch := os.read(socket, LARGEST_PACKET_BYTES):
        os.write(socket, answer(batch, module.ed_verify))


if __name__ == "__main__":
    main()
