"""A real browser on the page of `keyvalue-nats dev --ui`."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

PATIENCE_SECONDS = 20
"""A browser on a busy machine."""


@contextlib.contextmanager
def browser_on(url: str) -> Iterator[webdriver.Chrome]:
    """Start a browser that shows a page, or skip the test."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        if os.environ.get("CI"):
            pytest.fail("chromium and chromium-driver are not installed")
        pytest.skip("needs chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as started:
        started.get(url)
        yield started


def send(browser: webdriver.Chrome, words: str, expires: str = "") -> str:
    """Send an operation with the form and return the text of its result."""
    result = browser.find_element(By.ID, "result")
    browser.execute_script("arguments[0].textContent = ''", result)
    for name, text in (("words", words), ("expires", expires)):
        field = browser.find_element(By.ID, name)
        browser.execute_script("arguments[0].value = ''", field)
        if text:
            field.send_keys(text)
    browser.find_element(By.CSS_SELECTOR, "form button").click()
    wait(browser, lambda: result.text != "")
    return result.text


def wait(browser: webdriver.Chrome, condition: Callable[[], bool]) -> None:
    WebDriverWait(browser, PATIENCE_SECONDS).until(lambda _: condition())


def rows(browser: webdriver.Chrome, table: str) -> list[list[str]]:
    """Return the cells of a table, read at one moment: the page replaces its rows."""
    script = "return [...document.getElementById(arguments[0]).rows].map(r => [...r.cells].map(c => c.textContent))"
    found: list[list[str]] = browser.execute_script(script, table)
    return found


def severe_messages(browser: webdriver.Chrome) -> list[object]:
    """Return the errors that the browser has logged."""
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]  # type: ignore[no-untyped-call]
