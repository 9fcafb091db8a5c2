"""A headless Chromium, and everything that it asked for and complained of."""

import json
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,900",
)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
WAIT_S, POLL_S = 30, 0.05
OWN_SCHEMES = ("http", "https", "ws", "wss")


def find_chromium():
    """Return the paths of Chromium and its driver, None if there are none."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    return programs if all(programs) else None


@contextmanager
def started(programs):
    """A browser with an empty profile of its own."""
    binary, driver = programs
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            yield Browser(made)
        finally:
            made.quit()


@dataclass
class Traffic:
    """What was asked for since the last look.

    Attributes:
        urls: In order, each as often as it was asked for.
        bytes: As they came over the wire.
    """

    urls: list[str] = field(default_factory=list)
    bytes: float = 0.0

    @property
    def elsewhere(self):
        """What left this machine."""
        return [url for url in self.urls if urlsplit(url).hostname not in LOOPBACK]


class Browser:
    """What tests do with a page."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, address, *, until):
        """Open a page and wait for an element."""
        self.traffic()
        self.complaints()
        self.driver.get(address)
        return self.wait_for(until)

    def wait_for(self, selector):
        """Return the first element that a selector finds, as soon as there is one."""
        return self.until(lambda: self.all(selector))[0]

    def until(self, holds):
        """Return what a function returns as soon as it is true."""
        return WebDriverWait(self.driver, WAIT_S, POLL_S).until(lambda _: holds())

    def all(self, selector):
        """Return all elements that a selector finds."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        """Return the first element that a selector finds."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector):
        """Return the text of each element that a selector finds."""
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)"
        return self.driver.execute_script(script, selector)

    def run(self, script, *arguments):
        """Return what a script returns."""
        return self.driver.execute_script(script, *arguments)

    def press(self, *keys):
        """Press keys one after another, wherever the focus is."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def complaints(self):
        """Return what the console has told since the last look."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def traffic(self):
        """Return what was asked for since the last look."""
        found, by_id = Traffic(), {}
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            given = message["params"]
            if message["method"] == "Network.requestWillBeSent":
                url = given["request"]["url"]
                if urlsplit(url).scheme in OWN_SCHEMES:
                    by_id[given["requestId"]] = url
                    found.urls.append(url)
            elif message["method"] == "Network.loadingFinished" and given["requestId"] in by_id:
                found.bytes += given["encodedDataLength"]
        return found

    def screenshot(self, path):
        """Keep what is seen."""
        Path(path).write_bytes(self.driver.get_screenshot_as_png())
