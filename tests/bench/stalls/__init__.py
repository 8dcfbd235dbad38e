"""The latency of small Gets while a single call works on a large set or list."""
