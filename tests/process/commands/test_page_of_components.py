"""The page of `keyvalue-nats dev --ui --host 1.x` in a real browser: calls over wRPC, by a component."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.process.commands.dev_terminal import Dev, dev
from tests.process.commands.page_browser import browser_on, rows, send, severe_messages, wait


@pytest.fixture(scope="module")
def lattice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with dev(tmp_path_factory.mktemp("runtime"), "--ui", "--host", "1.x", "--instances", "2") as started:
        yield started


@pytest.fixture(scope="module")
def browser(lattice: Dev) -> Iterator[webdriver.Chrome]:
    with browser_on(lattice.wait_for("page ").split()[-1]) as started:
        yield started


def test_a_person_sends_a_call_of_a_component_and_sees_the_key_and_the_call(browser: webdriver.Chrome) -> None:
    assert send(browser, "Set user:1 'Ann <b>Smith</b>'").startswith("ok\nstore.set, ")
    assert send(browser, "increment visits 5").startswith("5\natomics.increment, ")
    assert send(browser, "Get user:1").startswith("Ann <b>Smith</b>\nstore.get, ")
    assert send(browser, "get-many user:1 missing").startswith("key=")
    wait(browser, lambda: ["visits", "text", "5"] in [row[:3] for row in rows(browser, "keys")])
    wait(browser, lambda: {"store.set", "atomics.increment"} <= {row[1] for row in rows(browser, "calls")})
    assert "store.list-keys" not in {row[1] for row in rows(browser, "calls")}, "the page shows its own reads"
    assert "invocation" not in browser.find_element(By.ID, "trouble").text


def test_the_link_is_that_of_the_component_and_what_its_interface_lacks_is_not_shown(browser: webdriver.Chrome) -> None:
    assert send(browser, "Contains counted").startswith("false\nstore.exists, ")
    wait(browser, lambda: "dev-component" in browser.find_element(By.ID, "link").text)
    assert "component" in browser.find_element(By.ID, "link").text.split("\n")
    assert not browser.find_element(By.ID, "expires").is_displayed()
    heads = browser.find_elements(By.CSS_SELECTOR, "#keys-table th")
    assert [head.text for head in heads if head.is_displayed()] == ["key", "kind", "value"]
    wait(browser, lambda: sum(int(row[2]) for row in rows(browser, "instances")) >= 1)
    wait(browser, lambda: [row[:2] for row in rows(browser, "instances")] == [["#1", "well"], ["#2", "well"]])


def test_a_slip_is_answered_with_a_sentence(browser: webdriver.Chrome) -> None:
    assert "did you mean Get?" in send(browser, "Gett k")
    assert "components have no function 'SetAdd'" in send(browser, "SetAdd colours red")


def test_calls_from_a_terminal_appear(browser: webdriver.Chrome, lattice: Dev, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\x00")
    assert lattice.output("Set", "bytes", f"@{tmp_path / 'bytes'}") == "ok\n"
    wait(browser, lambda: ["bytes", "binary", "/wA="] in [row[:3] for row in rows(browser, "keys")])
    assert lattice.output("Set", "from:terminal", "1") == "ok\n"
    wait(browser, lambda: any(row[1:3] == ["store.set", "from:terminal"] for row in rows(browser, "calls")))
    prefix = browser.find_element(By.ID, "prefix")
    prefix.send_keys("from:")
    wait(browser, lambda: [row[:3] for row in rows(browser, "keys")] == [["from:terminal", "text", "1"]])
    prefix.send_keys(Keys.BACKSPACE * len("from:"))
    assert browser.save_screenshot(str(tmp_path / "page.png"))
    assert not any("store.list-keys" in line for line in lattice.lines)
    assert severe_messages(browser) == []
