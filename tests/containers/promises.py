"""Times that the tier's tests hold the provider and its servers to, with slack for two cores that others use as well."""

from __future__ import annotations

ANSWER_SECONDS = 2.5
"""No call may take longer, whatever happens, while the provider lives; callers of all hosts wait two."""

SERVED_AGAIN_SECONDS = 20.0
"""From a fault to answers of whoever is left: an election takes at least four seconds, and may have to be repeated."""

TOGETHER_AGAIN_SECONDS = 30.0
"""From the mending of a network until what was held back on it has arrived: TCP waits longer after every attempt."""
