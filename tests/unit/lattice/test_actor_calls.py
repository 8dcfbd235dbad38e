"""Calls of actors: the ids of links, which anyone may have written, cannot become commands to the server."""

from __future__ import annotations

from typing import Any, cast

import pytest

from contracts.host import HostData
from contracts.nkeys import KeyKind
from provider import errors
from provider.commands.minting import make_public_key, make_seed
from provider.lattice.actor_calls import ActorCaller

HOST_DATA = HostData(
    host_id=make_public_key(KeyKind.SERVER),
    lattice_rpc_prefix="default",
    link_name="default",
    provider_key=make_public_key(KeyKind.SERVICE),
    invocation_seed=make_seed(KeyKind.CLUSTER).text,
    cluster_issuers=[],
)


@pytest.mark.parametrize("actor_id", ["", "*", "a b", "M\r\nPUB $JS.API.STREAM.DELETE.x 0\r\n\r\n", ">"])
async def test_an_id_that_no_subject_can_have_is_not_called(actor_id: str) -> None:
    caller = ActorCaller(cast(Any, None), HOST_DATA)  # nothing is sent, so no connection is needed
    with pytest.raises(errors.ActorFailedError, match="no subject may have"):
        caller.prepare((actor_id, "wasmcloud:keyvalue", "default"), "KeyValueWatch.HandleChange", b"")
