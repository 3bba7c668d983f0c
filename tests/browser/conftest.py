"""A browser, and for each version of gradio that the hosts have a process that serves the accordion.

What is missing is said in the reason of a skipped test; `make test` sets up all but Chromium.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.browser.pages import Accordion

ROOT = Path(__file__).resolve().parent.parent.parent
VERSIONS = ("3.41.2", "4.40.0")

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox",  # continuous integration runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # gradio's pages ask for fonts elsewhere; a test must neither depend on these nor wait for them.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
_START_SECONDS = 120


@dataclass
class Server:
    """A process that serves the pages with one version of gradio.

    Attributes:
        version: of gradio.
        process: the process; it ends with its standard input, whatever becomes of this one.
        presets: where its pages keep presets.
        log: what it wrote to its error output.
        pages: the addresses by the kind of page, known once it is ready.
    """

    version: str
    process: subprocess.Popen[str]
    presets: Path
    log: Path
    pages: dict[str, str] | None = None

    def wait(self) -> None:
        """Return when it is ready; the test fails where it cannot be."""
        if self.pages is not None:
            return
        assert self.process.stdout is not None
        timer = threading.Timer(_START_SECONDS, self.process.kill)
        timer.start()
        said = self.process.stdout.readline()
        timer.cancel()
        assert said, f"no page with gradio {self.version}:\n{self.log.read_text('utf-8')}"
        pages = json.loads(said)
        assert pages.pop("gradio") == self.version
        self.pages = pages

    def stop(self) -> None:
        """End the process; it holds nothing that an orderly end would save."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    path = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if path is None:
        pytest.skip("Chromium is not installed")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def servers(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """All that can be started, at once; the browser comes first because without it none is needed."""
    started = {}
    for version in VERSIONS:
        if found := _interpreter(version[0]):
            started[version] = _start(version, *found, tmp_path_factory.mktemp(f"gradio{version[0]}"))
    yield started
    for server in started.values():
        server.stop()


@pytest.fixture(scope="package", params=VERSIONS, ids=[f"gradio {version}" for version in VERSIONS])
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Iterator[Server]:
    version = request.param
    if version not in servers:
        pytest.skip(
            f"gradio {version} is not there: `make test` installs it for Python 3.10 to 3.12, "
            f"or PG_GRADIO{version[0]}_PYTHON names an interpreter that has it, and torch"
        )
    servers[version].wait()
    yield servers[version]
    log = servers[version].log.read_text("utf-8")
    assert "Traceback" not in log, log


@pytest.fixture(scope="package")
def context(browser: Any, server: Server) -> Iterator[Any]:
    """One for all pages of a server: what they share is loaded once."""
    context = browser.new_context()
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def open_page(context: Any, server: Server) -> Iterator[Callable[..., Accordion]]:
    """Opens pages, and has no errors on any of them in the end."""
    yield from _opener(context, server)


@pytest.fixture(scope="package")
def shown(context: Any, server: Server) -> Iterator[Accordion]:
    """The accordion of txt2img with all its parts open, for tests that leave it as it is."""
    opener = _opener(context, server)
    accordion = next(opener)()
    accordion.unfold()
    yield accordion
    next(opener, None)


def _opener(context: Any, server: Server) -> Iterator[Callable[..., Accordion]]:
    from tests.browser.pages import Accordion

    opened: list[Accordion] = []

    def open_page(kind: str = "plain", tab: str = "txt2img", theme: str = "light", **size: int) -> Accordion:
        assert server.pages is not None
        opened.append(Accordion(context.new_page(), tab))
        opened[-1].load(f"{server.pages[kind]}?__theme={theme}", **size)
        return opened[-1]

    yield open_page
    errors = [error for accordion in opened for error in accordion.errors]
    for accordion in opened:
        accordion.page.close()
    assert errors == []


def _interpreter(major: str) -> tuple[str, dict[str, str]] | None:
    """Return an interpreter that has this gradio, and what its environment needs for it."""
    if own := os.environ.get(f"PG_GRADIO{major}_PYTHON"):
        return own, {}
    folder = ROOT / ".venv" / f"gradio{major}"
    return (sys.executable, {"PYTHONPATH": str(folder)}) if (folder / "gradio").is_dir() else None


def _start(version: str, python: str, more: dict[str, str], folder: Path) -> Server:
    environment = {
        **os.environ,
        **more,
        "GRADIO_ANALYTICS_ENABLED": "False",
        "NO_PROXY": "127.0.0.1",  # gradio asks its own page whether it is there
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "",  # compiling gradio anew takes longer than all the tests
    }
    presets, log = folder / "presets", folder / "log.txt"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [python, str(Path(__file__).parent / "serve_page.py"), str(presets)],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    return Server(version, process, presets, log)
