"""nats-py without its JetStream client: the stand-in has all that the rest of nats-py asks of it."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import nats.aio.client
import nats.aio.msg
import nats.aio.subscription
import nats.js.api
import pytest

from provider.nats.light_import import Header

LATER = """
from provider.nats.light_import import import_nats
import_nats()
import sys
assert not {"nats.js", "email.parser", "typing_extensions"} & {*sys.modules}
from nats.aio.client import Client
import nats
assert nats.js.api.Header.STATUS.value == "Status"
from nats.js.object_store import ObjectStore
assert type(Client().jetstream()).__module__ == "nats.js.client"
"""


@pytest.mark.parametrize("module", [nats.aio.client, nats.aio.msg, nats.aio.subscription])
def test_every_name_of_jetstream_that_is_used_without_it_stands_in(module: object) -> None:
    used = set(re.findall(r"\bnats\.js\.([\w.]+)", inspect.getsource(module)))  # type: ignore[arg-type]
    headers = {name.removeprefix("api.Header.").removesuffix(".value") for name in used if name.startswith("api.")}
    assert headers <= {header.name for header in Header}
    assert {name for name in used if not name.startswith("api.")} <= {"JetStreamContext", "JetStreamManager"}


@pytest.mark.parametrize("header", Header)
def test_the_headers_are_those_of_nats_py(header: Header) -> None:
    assert nats.js.api.Header[header.name].value == header.value


def test_who_imports_jetstream_later_gets_all_of_it() -> None:
    done = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
