"""The part of the benchmark that measures caches. Read `measure` first."""
