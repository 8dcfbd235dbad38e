"""The ranges of the contract's integers."""

from __future__ import annotations

I32_MIN, I32_MAX = -(2**31), 2**31 - 1
U32_MAX = 2**32 - 1
