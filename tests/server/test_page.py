"""The chat page: its files and headers, and a real browser that uses it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgellm.server
from tests.server.browser import Browser
from tests.server.serving import Process, serve, serve_here
from tests.support import require

STATIC = Path(edgellm.server.__file__).parent / "static"
ANSWERED = "document.querySelector('.turn.assistant:last-child .under') !== null"
EVIL = '<img src=x onerror="document.title=1"><script>document.title=1</script> ```html\n<b>bold</b>\n```'


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    require(program="chromium", reason="the chat page is tested in it; apt-get install chromium")
    with Browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


def send(browser: Browser, text: str) -> None:
    browser.run("document.getElementById('prompt').focus()")
    browser.type(text)
    browser.press("Enter")


def test_files_name_no_address_outside() -> None:
    for file in STATIC.iterdir():
        outside = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", file.read_text()))
        assert outside <= {"http://www.w3.org"}, file  # the SVG name space, which is never fetched
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", file.read_text()
        )
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:", page)
    for name in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert name.startswith("/static/") and (STATIC / Path(name).name).is_file()


def test_headers_of_the_page(server: Process) -> None:
    status, headers, body = server.call("GET", "/")
    assert status == 200 and headers["content-type"].startswith("text/html") and b"<!doctype html>" in body
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert server.call("GET", "/", headers={"If-None-Match": headers["etag"]})[0] == 304
    assert server.call("HEAD", "/")[2] == b""


def test_a_conversation_in_a_browser(browser: Browser, server: Process) -> None:
    browser.open(server.url)
    browser.until(f"document.getElementById('model').textContent === {json.dumps(server.model)}")
    send(browser, "What is a bundle?")
    browser.until(ANSWERED)
    assert browser.run("document.querySelectorAll('.turn').length") == 2
    assert browser.run("document.querySelector('.turn.user .text').textContent") == "What is a bundle?"
    assert len(browser.run("document.querySelector('.turn.assistant .text').textContent")) > 3
    assert "tokens/s" in browser.run("document.querySelector('.under').textContent")
    assert browser.run("document.getElementById('status').textContent").startswith("Answer: ")

    browser.open(server.url)  # the browser has kept it
    assert browser.run("document.querySelectorAll('.turn').length") == 2
    browser.run("document.getElementById('new').click()")
    assert browser.run("document.querySelectorAll('.turn').length") == 0
    assert browser.complaints() == []
    assert all(url.startswith(server.url) for url in browser.requests() if url != "about:blank")


def test_what_the_model_says_never_becomes_markup(browser: Browser, server: Process) -> None:
    browser.open(server.url)
    stored = {"messages": [{"role": "user", "content": EVIL}, {"role": "assistant", "content": EVIL}]}
    browser.run(f"localStorage.setItem('edgellm.chat', {json.dumps(json.dumps(stored))})")
    browser.open(server.url)
    assert browser.run("document.querySelectorAll('.turn').length") == 2
    assert browser.run("document.querySelectorAll('.text img, .text script, .text b').length") == 0
    assert "<script>" in browser.run("document.querySelector('.turn.assistant .text').textContent")
    assert browser.run("document.title") != "1"
    browser.run("localStorage.clear()")


def test_an_answer_can_be_stopped_and_its_place_is_free(browser: Browser, demo_bundle: Path) -> None:
    with serve_here(demo_bundle, pause=0.05) as (api, _):
        browser.open(api.url)
        send(browser, "Hi")
        browser.until("document.querySelector('.turn.busy .text')?.textContent.length > 0")
        browser.press("Escape")
        browser.until(ANSWERED)
        assert "stopped by you" in browser.run("document.querySelector('.under').textContent")
        assert api.wait_idle(3) < 1
        assert browser.run("document.getElementById('send').getAttribute('aria-label')") == "Send"


def test_the_key_is_asked_for_and_then_used(browser: Browser, demo_bundle: Path) -> None:
    with serve(demo_bundle, EDGELLM_API_KEY="open-sesame") as running:
        browser.open(running.url)
        browser.until("document.getElementById('settings').open")
        assert browser.run("document.activeElement.id") == "key"
        browser.type("open-sesame")
        browser.press("Enter")
        browser.until("document.getElementById('key-wanted').hidden")
        send(browser, "What is a bundle?")
        browser.until(ANSWERED)
        assert browser.run("document.querySelector('.notice:not([hidden])')?.textContent ?? null") is None
        assert "open-sesame" not in browser.run("JSON.stringify(localStorage)")


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_in_light_and_dark(browser: Browser, server: Process, dark: bool) -> None:
    browser.open(server.url, width=360, height=640, dark=dark)
    browser.run("document.getElementById('new').click()")
    send(browser, "What is a bundle?")
    browser.until(ANSWERED)
    assert browser.run("document.documentElement.scrollWidth") <= 360
    assert browser.run("document.getElementById('composer').getBoundingClientRect().bottom") <= 640
    assert browser.run("document.documentElement.dataset.theme") == ("dark" if dark else "light")
    ratios = browser.run(
        """(() => {
          const light = (c) => { const v = c.match(/\\d+/g).slice(0, 3).map((x) => x / 255)
              .map((x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
            return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
          const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
            return (x + 0.05) / (y + 0.05); };
          const ground = getComputedStyle(document.body).backgroundColor;
          const mine = getComputedStyle(document.querySelector('.turn.user .text'));
          return [ratio(getComputedStyle(document.body).color, ground),
                  ratio(getComputedStyle(document.querySelector('.under')).color, ground),
                  ratio(mine.color, mine.backgroundColor)];
        })()"""
    )
    assert min(ratios) >= 4.5  # WCAG 2.2, 1.4.3
