"""The identities in a development lattice. This module loads no library for signing.

Most commands look for the file of a running lattice, which has its identities.
"""

from __future__ import annotations

from dataclasses import dataclass

from contracts.lattice import Subjects
from contracts.secret import Secret
from provider.commands.dev_lattice.dialect import Dialect


@dataclass(frozen=True)
class DevIdentity:
    """The identities in a development lattice: one actor, one provider, their host, and the key that signs invocations.

    In one of 1.x, the actor is a component, and nothing is signed.
    """

    lattice: str
    host_id: str
    provider_key: str
    actor_id: str
    link_name: str
    cluster_seed: Secret
    dialect: Dialect = Dialect.WASMBUS

    @property
    def subjects(self) -> Subjects:
        return Subjects(self.lattice, self.provider_key, self.link_name)
