"""The name that a person probably meant. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def suggestion(word: str, names: Mapping[str, str], otherwise: str, likeness: float = 0.6) -> str:
    """Return a question for the name that resembles a word most.

    Args:
        word: The unknown word, in the spelling of the keys of `names`.
        names: The names to suggest, by the spelling to compare with.
        otherwise: The result if no name resembles the word.
        likeness: The similarity from which a name is suggested, between 0 and 1.
    """
    import difflib  # noqa: PLC0415  (0.2 MiB, only for a word that is unknown)

    close = difflib.get_close_matches(word, names, n=1, cutoff=likeness)
    return f"did you mean {names[close[0]]}?" if close else otherwise
