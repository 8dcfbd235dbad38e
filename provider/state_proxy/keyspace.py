"""Keys as the connector's client names them <-> keys in the bucket. Pure."""

from __future__ import annotations

from provider.keyvalue.keys import decode_key, encode_key

_FILTER_BITS = 2**20


class Names:
    """The keys of one STATE_PREFIX: `cache-actor` and `user_123.json` make `cache-actor.user_123.json`.

    Args:
        prefix: "" for none.

    Attributes:
        under: What every key begins with as it is stored, as far as that is whole tokens of a subject.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}." if prefix else ""
        self.under = encode_key("x", self._prefix)[:-1]

    def bucket_key(self, key: str) -> str:
        """Return the key as stored.

        Raises:
            errors.EmptyKeyError, errors.KeyTooLongError: It cannot be stored.
        """
        return encode_key(key, self._prefix)

    def key(self, bucket_key: str) -> str | None:
        """Return a stored key as the client names it; `None`: it is none of these."""
        return decode_key(bucket_key, self._prefix)


class Listing:
    """Keys that begin with a prefix, cut behind the first delimiter that follows it.

    Attributes:
        keys: Those without a delimiter behind the prefix.
        prefixes: What the others begin with, the delimiter included.
    """

    def __init__(self, prefix: str, delimiter: str) -> None:
        self._prefix = prefix
        self._delimiter = delimiter
        self.keys: set[str] = set()
        self.prefixes: set[str] = set()

    def add(self, key: str) -> None:
        """Take in a key, if it begins with the prefix."""
        if not key.startswith(self._prefix):
            return
        end = key.find(self._delimiter, len(self._prefix)) if self._delimiter else -1
        if end < 0:
            self.keys.add(key)
        else:
            self.prefixes.add(key[: end + len(self._delimiter)])


class Folders:
    """Which folders there may be: those of every key that was ever seen, however many of them are gone.

    It answers the common question, that nothing is there, without looking through all keys again. As a Bloom filter it
    takes the same room for any number: of 50,000 folders it takes one in 400 absent ones for present, of 200,000 one in 12.

    Attributes:
        revision: Up to which the bucket has been looked through.
    """

    def __init__(self) -> None:
        self.revision = 0
        self._bits = bytearray(_FILTER_BITS // 8)

    def add(self, key: str) -> None:
        """Take in the folders that a key lies in."""
        end = key.rfind("/")
        while end >= 0:
            for bit in _bits_of(key[: end + 1]):
                self._bits[bit >> 3] |= 1 << (bit & 7)
            end = key.rfind("/", 0, end)

    def may_have(self, folder: str) -> bool:
        """Tell whether a folder, given with its slash, may be there."""
        return all(self._bits[bit >> 3] & 1 << (bit & 7) for bit in _bits_of(folder))


def _bits_of(folder: str) -> tuple[int, int, int]:
    number = hash(folder)
    return number % _FILTER_BITS, (number >> 20) % _FILTER_BITS, (number >> 40) % _FILTER_BITS
