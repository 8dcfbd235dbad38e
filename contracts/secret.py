"""A text that must not be printed. The module does not know the purpose of the text."""

from __future__ import annotations

import hmac


class Secret:
    """A secret text that neither `repr`, `str`, a log line nor a traceback shows.

    Call `reveal` at the one place that needs the text.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret('***')" if self._text else "Secret('')"
