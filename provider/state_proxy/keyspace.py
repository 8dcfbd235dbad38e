"""The client's keys and their names in the bucket. Pure."""

from __future__ import annotations

from provider.keyvalue.keys import decode_key, encode_key

_FILTER_BITS = 2**20
"""128 KiB, for the false positive rates that `FolderFilter` states."""


class Keyspace:
    """The keys below one STATE_PREFIX: `cache-actor` and `user_123.json` become `cache-actor.user_123.json`.

    Args:
        prefix: "" for no prefix.

    Attributes:
        under: Common beginning of all bucket keys, as far as it consists of whole tokens of a subject.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}." if prefix else ""
        self.under = encode_key("x", self._prefix)[:-1]

    def bucket_key(self, key: str) -> str:
        """Return the key as stored.

        Raises:
            errors.EmptyKeyError, errors.KeyTooLongError: The key cannot be stored.
        """
        return encode_key(key, self._prefix)

    def key(self, bucket_key: str) -> str | None:
        """Return a stored key as the client names it, or `None` if it lies outside the prefix."""
        return decode_key(bucket_key, self._prefix)


class Listing:
    """Keys that begin with a prefix, cut after the first delimiter that follows the prefix.

    Attributes:
        keys: Keys without a delimiter after the prefix.
        prefixes: Beginnings of the other keys, up to and including the delimiter.
    """

    def __init__(self, prefix: str, delimiter: str) -> None:
        self._prefix = prefix
        self._delimiter = delimiter
        self.keys: set[str] = set()
        self.prefixes: set[str] = set()

    def add(self, key: str) -> None:
        """Add a key if it begins with the prefix."""
        if not key.startswith(self._prefix):
            return
        end = key.find(self._delimiter, len(self._prefix))
        if end < 0:
            self.keys.add(key)
        else:
            self.prefixes.add(key[: end + len(self._delimiter)])


class FolderFilter:
    """A Bloom filter of the folders of all keys seen so far, deleted keys included.

    Most questions are about folders that do not exist. The filter answers these without another scan of the bucket. Its
    size is constant: with 50,000 folders it reports one in 400 absent folders as possible, with 200,000 one in 12.

    Attributes:
        revision: Revision up to which the bucket has been scanned.
    """

    def __init__(self) -> None:
        self.revision = 0
        self._bits = bytearray(_FILTER_BITS // 8)

    def add(self, key: str) -> None:
        """Add the folders that a key lies in."""
        end = key.rfind("/")
        while end >= 0:
            for bit in _bits_of(key[: end + 1]):
                self._bits[bit >> 3] |= 1 << (bit & 7)
            end = key.rfind("/", 0, end)

    def may_have(self, folder: str) -> bool:
        """Return whether a folder, given with its trailing slash, may exist."""
        return all(self._bits[bit >> 3] & 1 << (bit & 7) for bit in _bits_of(folder))


def _bits_of(folder: str) -> tuple[int, int, int]:
    """Return three independent bit numbers: 20 bits each of the 64 bits of Python's string hash."""
    number = hash(folder)
    return number % _FILTER_BITS, (number >> 20) % _FILTER_BITS, (number >> 40) % _FILTER_BITS
