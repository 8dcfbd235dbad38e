"""A bounded memory of keys, and the keys whose last read has failed. Pure."""

from __future__ import annotations

from typing import Generic, TypeVar

MAX_KEYS = 4096
"""An actor works on few files at a time."""

MAX_BYTES = 512 * 1024
"""Long keys count by their size: the connector has 32 MiB for everything."""

Known = TypeVar("Known")


class KeyMemory(Generic[Known]):
    """A value for each of the most recently used keys, at most `max_keys` with at most `max_bytes` of keys."""

    def __init__(self, max_keys: int = MAX_KEYS, max_bytes: int = MAX_BYTES) -> None:
        self._known: dict[str, Known] = {}
        """In the order of their last use. A dict takes half the memory of an `OrderedDict`."""
        self._bytes = 0
        self._max_keys = max_keys
        self._max_bytes = max_bytes

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Known | None:
        return self._known.get(key)

    def put(self, key: str, known: Known) -> None:
        """Set the value of a key, which becomes the most recently used one."""
        self.drop(key)
        self._known[key] = known
        self._bytes += len(key)
        while len(self._known) > self._max_keys or self._bytes > self._max_bytes:
            self.drop(next(iter(self._known)))

    def drop(self, key: str) -> None:
        if self._known.pop(key, None) is not None:
            self._bytes -= len(key)

    def items(self) -> list[tuple[str, Known]]:
        """Return all keys with their values, the least recently used one first."""
        return list(self._known.items())


class UnansweredReads:
    """The keys whose last GET or HEAD failed, so that a client may take them for absent.

    `os.path.exists` makes False of every error. Many handlers take any error of `open` for a first start. A write of such a
    key would overwrite a file that its writer has not seen.
    """

    def __init__(self, max_keys: int = MAX_KEYS, max_bytes: int = MAX_BYTES) -> None:
        self._is_read: KeyMemory[bool] = KeyMemory(max_keys, max_bytes)

    def __contains__(self, key: str) -> bool:
        return self._is_read.get(key) is not None

    def failed(self, key: str, *, is_read: bool) -> None:
        """Note that a lookup of a key has failed, or with `is_read` the read of its content."""
        self._is_read.put(key, is_read or bool(self._is_read.get(key)))

    def answered(self, key: str, *, is_read: bool) -> None:
        """Note that a key was found or is absent. A lookup that succeeds does not make up for a read that has failed."""
        if is_read or self._is_read.get(key) is False:
            self._is_read.drop(key)
