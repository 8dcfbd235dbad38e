"""The tests against a real host run only where its binary is named."""

from __future__ import annotations

from tests.process.wasmcloud1.real_host import host_binary

collect_ignore = [] if host_binary() else ["test_real_host.py"]
