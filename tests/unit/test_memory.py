"""Freed memory is returned where the C library can do that, and nothing happens elsewhere."""

from __future__ import annotations

import importlib

import pytest

from provider import memory


@pytest.mark.parametrize("library", [object(), None])
def test_another_c_library_or_none_is_no_error(monkeypatch: pytest.MonkeyPatch, library: object) -> None:
    class Ctypes:
        @staticmethod
        def CDLL(name: None) -> object:  # noqa: N802  (the name in ctypes)
            if library is None:
                raise OSError
            return library

    monkeypatch.setattr(importlib, "import_module", lambda name: Ctypes)
    memory._malloc_trim.cache_clear()
    memory.return_freed()
    memory._malloc_trim.cache_clear()


def test_the_c_library_is_asked() -> None:
    memory.return_freed()
