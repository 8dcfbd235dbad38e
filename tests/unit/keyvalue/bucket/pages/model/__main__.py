"""Search the model as deep as it is told: `python -m tests.unit.keyvalue.bucket.pages.model [STATES]`."""

from __future__ import annotations

import sys

from tests.unit.keyvalue.bucket.pages.model.rules import ALL
from tests.unit.keyvalue.bucket.pages.model.scenarios import WHOLE
from tests.unit.keyvalue.bucket.pages.model.search import search, told

_STATES = 1_000_000
"""A few minutes for each scenario, and about 4 GB of memory."""


def main() -> int:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else _STATES
    has_fault = False
    for name, scenario in WHOLE.items():
        for is_replicated in (False, True):
            found = search(scenario._replace(is_replicated=is_replicated).world(ALL), most)
            copies = "three replicas" if is_replicated else "one replica"
            print(f"{name}, {copies}: {found.states} states{', all of them' * found.is_whole}", flush=True)
            if found.fault:
                has_fault = True
                print(f"{found.fault}\n{told(found.path)}")
    return has_fault


if __name__ == "__main__":
    sys.exit(main())
