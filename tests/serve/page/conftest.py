"""A browser on the page, and a server of a small index of photographs and digits."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
DIGITS = 210


@pytest.fixture(scope="session")
def hostile():
    """The name of a folder, and so a label."""
    return "<img src=x onerror=document.title='hacked'>"


@pytest.fixture(scope="session")
def folder(tmp_path_factory, digits, hostile):
    """Photographs with a near-duplicate each, one in a folder of a hostile name, and digits."""
    from sklearn.datasets import load_sample_images

    root = tmp_path_factory.mktemp("page") / "images"
    for name, pixels in zip(("temple", "dahlia"), load_sample_images().images, strict=True):
        (root / name).mkdir(parents=True)
        whole = Image.fromarray(pixels)
        whole.save(root / name / "whole.jpg", quality=90)
        whole.resize((320, 214)).save(root / name / "small.jpg", quality=80)
        whole.crop((160, 100, 480, 320)).save(root / name / "part.jpg", quality=90)
    (root / hostile).mkdir()
    Image.fromarray(pixels).rotate(90, expand=True).save(root / hostile / "turned.jpg")
    for number, (image, label) in enumerate(zip(*digits, strict=True)):
        if number < DIGITS:
            (root / f"digit {label}").mkdir(exist_ok=True)
            Image.fromarray(image[..., 0]).save(root / f"digit {label}" / f"{number}.png")
    for number, path in enumerate(sorted(root.glob("*/*.*"))):
        os.utime(path, (1_577_836_800 + 86_400 * number,) * 2)  # a day each from 2020 on
    return root


@pytest.fixture(scope="session")
def address(folder):
    """Where `vision-jax serve` answers, over an index of `folder`."""
    import vision_jax
    from vision_jax.cli import main

    home = folder.parent
    vision_jax.import_weights("efficientnet_lite0", workdir=home / "run", image_size=64)
    index = f"{home}/images.index"
    assert main(["index", f"{home}/run", "--images", str(folder), "--out", index]) == 0
    assert main(["evaluate", f"{home}/run", "--data.name", str(folder)]) == 0
    command = ["-m", "vision_jax", "serve", index, "--port", "0", "--cache", f"{home}/cache"]
    server = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if line.startswith("http://"):
                yield line.strip().rstrip("/")
                break
        else:
            pytest.fail("the server ended before it served")
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
        server.stdout.close()


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no Chromium at {CHROMIUM}; apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """A browser's page, whose methods it has, and what these tests do with it.

    Playwright's own waiting for an expression is not for this page: its policy lets nothing be
    evaluated from text.
    """

    def __init__(self, page):
        self._page = page

    def __getattr__(self, name):
        return getattr(self._page, name)

    def settle(self):
        self.wait_for_selector("main[aria-busy=false]")

    def until(self, expression):
        for _ in range(1200):
            if self.evaluate(expression):
                return
            self.wait_for_timeout(50)
        pytest.fail(f"never came true: {expression}")

    def searched(self, act):
        """Do something that searches: what the page sent, and what came back."""
        with self.expect_response("**/api/search") as found:
            act()
        self.settle()
        return found.value.request.post_data_json, found.value

    def shown(self):
        """The file and similarity of each hit."""
        return self.eval_on_selector_all(
            ".hit", "hits => hits.map(h => [h.title, h.querySelector('.score')?.textContent])"
        )

    def assert_shown(self, response):
        """The page shows what the API answered, or as much of it as is near the window."""
        hits = response.json()["results"][0]["hits"]
        told = [[hit["key"].split("/")[-1], f"{hit['score']:.3f}"] for hit in hits]
        assert len(self.shown()) >= min(40, len(told))
        assert self.shown() == told[: len(self.shown())]

    def new_touch(self):
        """A session by which fingers can be laid on the page."""
        return self._page.context.new_cdp_session(self._page)

    def drop(self, name, kind, content):
        self.evaluate(
            """([name, type, text]) => {
              const files = new DataTransfer();
              files.items.add(new File([text], name, { type }));
              const drop = new DragEvent("drop", { dataTransfer: files, bubbles: true });
              document.body.dispatchEvent(drop);
            }""",
            [name, kind, content],
        )


@pytest.fixture
def open_page(browser, address, folder):
    """Open the page; at the end nothing may have failed, or been asked of another server."""
    contexts, faults, asked = [], [], []

    def note(message):
        if message.type == "error" and "Failed to load resource" not in message.text:
            faults.append(message.text)

    def open_at(path="/", *, by=None, width=1280, height=800, **options):
        if by:
            path = f"/?key={quote(f'{folder}/{by}', safe='')}{path.removeprefix('/')}"
        viewport = {"width": width, "height": height}
        context = browser.new_context(**{"viewport": viewport, "locale": "en-US", **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", note)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path if path.startswith("http") else address + path)
        visit = Visit(page)
        visit.settle()
        return visit

    yield open_at
    for context in contexts:
        context.close()
    assert not faults
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
