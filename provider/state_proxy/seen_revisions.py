"""What the client has seen of each key: the revision that its next write of the key has to find. Pure."""

from __future__ import annotations

from collections import OrderedDict

MAX_KEYS = 4096
MAX_BYTES = 512 * 1024

_GONE = -1
"""A revision that nothing has."""


class SeenRevisions:
    """The revisions that reads have shown, of the keys used last.

    Absence is seen too, as revision 0: who has found nothing and then writes must not overwrite what somebody else has
    written since. What is too much is forgotten, what was used longest ago first.
    """

    def __init__(self, max_keys: int = MAX_KEYS, max_bytes: int = MAX_BYTES) -> None:
        self._revisions: OrderedDict[str, int] = OrderedDict()
        self._bytes = 0
        self._max_keys = max_keys
        self._max_bytes = max_bytes

    def __len__(self) -> int:
        return len(self._revisions)

    def expected(self, key: str) -> int | None:
        """Return the revision that a write of a key has to find; 0: nothing; `None`: the key was never read."""
        return self._revisions.get(key)

    def read(self, key: str, revision: int) -> None:
        """Note what a read has shown: it replaces what an earlier one has."""
        self.forget(key)
        self._revisions[key] = revision
        self._bytes += len(key)
        while len(self._revisions) > self._max_keys or self._bytes > self._max_bytes:
            dropped, _ = self._revisions.popitem(last=False)
            self._bytes -= len(dropped)

    def found_absent(self, key: str) -> None:
        """Note that a key was looked for and is not there; what was read of it before still counts."""
        if key not in self._revisions:
            self.read(key, 0)

    def written(self, key: str, expected: int | None, revision: int) -> None:
        """Note a write of the client's own; a key that was never read stays so.

        Args:
            key: Which.
            expected: What `expected` gave before the write: if a read has shown another one meanwhile, that counts.
            revision: What stands there now; 0: nothing.
        """
        if expected is not None and self._revisions.get(key) == expected:
            self.read(key, revision)

    def outdate(self) -> None:
        """Let no write find what was read: the bucket is another one, whose revisions begin again. Absence is the same."""
        for key, revision in self._revisions.items():
            if revision:
                self._revisions[key] = _GONE

    def forget(self, key: str) -> None:
        """Drop what was seen of a key, as after a conflict."""
        if self._revisions.pop(key, None) is not None:
            self._bytes -= len(key)
