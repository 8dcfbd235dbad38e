"""The names that a person probably means, at a slip and at the completion of a word. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping


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


def completions(beginning: str, names: Iterable[str], spelling: Callable[[str], str] = str.upper) -> list[str]:
    """Return the names that begin with a text, for the completion of a shell, which keeps the text as it was typed.

    Args:
        beginning: The text.
        names: The names.
        spelling: Returns the spelling by which a text and a name are compared, of the same length.
    """
    begun = [name for name in names if spelling(name).startswith(spelling(beginning))]
    return [beginning + name[len(beginning) :] for name in begun]
