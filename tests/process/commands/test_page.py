"""The page of `keyvalue-nats dev --ui`, in a real browser and as other sites would ask for it."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium import webdriver

from tests.process.commands.dev_terminal import Dev, dev
from tests.process.commands.page_browser import PATIENCE_SECONDS, browser_on, rows, send, severe_messages, wait


@pytest.fixture(scope="module")
def lattice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    folder = tmp_path_factory.mktemp("runtime")
    with dev(folder, "--ui", "--backend", "cache", "--instances", "2") as started:
        yield started


@pytest.fixture(scope="module")
def url(lattice: Dev) -> str:
    return lattice.wait_for("page ").split()[-1]


@pytest.fixture(scope="module")
def browser(url: str) -> Iterator[webdriver.Chrome]:
    with browser_on(url) as started:
        yield started


def test_a_person_sends_an_operation_and_sees_the_key_and_the_call(browser: webdriver.Chrome) -> None:
    assert send(browser, "Set user:1 'Ann <b>Smith</b>'", "900").startswith("ok\nKeyValue.Set, ")
    assert send(browser, "increment visits 5").startswith("5\n")
    wait(browser, lambda: ["visits", "counter", "5"] in [row[:3] for row in rows(browser, "keys")])
    (ann,) = [row for row in rows(browser, "keys") if row[0] == "user:1"]
    assert ann[1:3] == ["text", "Ann <b>Smith</b>"]
    assert 800 < int(ann[4].removesuffix(" s")) <= 900
    wait(browser, lambda: {"Set", "Increment"} <= {row[1] for row in rows(browser, "calls")})
    assert {"ListKeys", "GetEntry"}.isdisjoint(row[1] for row in rows(browser, "calls")), "the page shows its own reads"


def test_a_slip_is_answered_with_a_sentence(browser: webdriver.Chrome) -> None:
    assert "did you mean Get?" in send(browser, "Gett k")
    assert "is not closed" in send(browser, "Set k 'v")
    assert "expected a number of seconds" in send(browser, "Set k v", "soon")


def agree(replicas: list[list[str]]) -> bool:
    """Tell whether two replicas are shown, with the same keys and the same changes seen."""
    if len(replicas) != 2:
        return False
    first, second = replicas
    return first[2:4] == ["joined", "0"] and len(first) > 4 and first[1:] == second[1:]


def test_calls_from_a_terminal_appear_and_replicas_tell_what_they_have_seen(
    browser: webdriver.Chrome, lattice: Dev, tmp_path: Path
) -> None:
    assert lattice.output("SetAdd", "colours", "red") == "1\n"
    wait(browser, lambda: any(row[1:3] == ["SetAdd", "colours"] for row in rows(browser, "calls")))
    wait(browser, lambda: agree(rows(browser, "replicas")))
    wait(browser, lambda: [row[:2] for row in rows(browser, "instances")] == [["#1", "well"], ["#2", "well"]])
    assert browser.save_screenshot(str(tmp_path / "page.png"))
    assert severe_messages(browser) == []


def test_the_terminal_shows_which_process_has_answered_and_not_the_reads_of_the_page(lattice: Dev) -> None:
    assert lattice.output("Set", "counted", "1") == "ok\n"
    line = lattice.wait_for("counted")
    assert line.split()[1] in ("#1", "#2")
    assert not any("ListKeys" in line for line in lattice.lines)


def answer(url: str, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_SECONDS)
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    with contextlib.closing(connection):
        connection.request(method, path, body, named)
        got = connection.getresponse()
        return got.status, got.read().decode()


def test_other_sites_in_the_same_browser_are_refused(url: str) -> None:
    call = json.dumps({"words": ["Set", "stolen", "1"]})
    json_type = {"Content_Type": "application/json"}
    assert answer(url, "POST", "/call", call, Origin="http://evil.example", **json_type)[0] == 403
    assert answer(url, "POST", "/call", call, Content_Type="text/plain")[0] == 415
    assert answer(url, "GET", "/state", Host="evil.example")[0] == 403
    assert answer(url, "POST", "/call", "{}", **json_type)[0] == 400
    assert answer(url, "POST", "/call", json.dumps({"words": ["Get", "stolen"]}), **json_type)[1].find('"lines":[]') > 0
