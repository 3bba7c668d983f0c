"""`serve` in a browser: pictures, progress, cancelling, a second visitor, settings from a picture."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PROMPT = "a sks star <lora:sks_star:1>"
LONG = 60_000  # milliseconds


@dataclass
class Served:
    """A running `serve`: its address, its folder of pictures, its process."""

    address: str
    out: Path
    process: subprocess.Popen[str]


@dataclass
class Visit:
    """The page as a visitor uses it."""

    page: Any
    errors: list[str]
    asked: set[str]

    def write(self, prompt: str, steps: int = 4) -> None:
        self.page.fill("#txt2img_prompt textarea", prompt)
        self.page.fill("#txt2img_steps input[type=number]", str(steps))
        self.page.keyboard.press("Tab")

    def wait_for(self, text: str, where: str = "#pg_said") -> None:
        self.page.locator(where).get_by_text(text).first.wait_for(timeout=LONG)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    pytest.importorskip("gradio", reason="gradio is not installed")
    folder = tmp_path_factory.mktemp("served")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lib_pg", "serve", "--port", str(port), "--waiting", "2"]
    command += ["--out", str(folder / "out"), "--presets", str(folder / "presets")]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = re.fullmatch(r"serving (http://127\.0\.0\.1:\d+/) until Ctrl-C\n", process.stdout.readline())
    assert said is not None
    yield Served(said[1], folder / "out", process)
    process.terminate()  # whoever runs the tests in the background has their Ctrl-C ignored
    assert process.wait(60) == 143
    process.stdout.close()
    assert [path.name for path in folder.iterdir() if path.name.startswith("pg-serve")] == []


@pytest.fixture
def visit(browser: Any, served: Served) -> Iterator[Any]:
    visits: list[Visit] = []

    def opened() -> Visit:
        page = browser.new_page()
        page.set_default_timeout(20_000)
        visits.append(Visit(page, [], set()))
        page.on("pageerror", lambda error: visits[-1].errors.append(str(error)))
        page.on("request", lambda request: visits[-1].asked.add(request.url))
        page.goto(served.address)
        page.locator("#pg_txt2img_line").wait_for()
        return visits[-1]

    yield opened
    for each in visits:
        each.page.close()
        assert each.errors == []
        elsewhere = {url for url in each.asked if not url.startswith((served.address, "data:", "blob:"))}
        assert elsewhere == set()  # no font, no version, no statistics


def test_a_picture_is_made_as_the_line_says_and_tells_its_parameters(visit: Any, served: Served) -> None:
    here = visit()
    here.write(PROMPT)
    here.wait_for("sks_star 1 -> 0.7 in the weak branch", "#pg_txt2img_line")
    here.page.click("#pg_generate")
    here.wait_for("Saved in")
    assert len(list(served.out.glob("*.png"))) == 1
    here.page.locator("#txt2img_gallery img").first.click()
    parameters = here.page.locator("#pg_parameters textarea")
    here.page.wait_for_function("element => element.value", arg=parameters.element_handle())
    assert "PG weak ratio: 0.7" in parameters.input_value()


def test_settings_come_from_a_dropped_picture(visit: Any, served: Served) -> None:
    here = visit()
    (picture, *_) = sorted(served.out.glob("*.png"))
    here.page.set_input_files("#pg_dropped input[type=file]", str(picture))
    here.wait_for("The picture's settings are set.")
    assert here.page.input_value("#txt2img_steps input[type=number]") == "4"
    assert here.page.input_value("#txt2img_prompt textarea") == "a sks star <lora:sks_star:1.0>"


def test_a_comparison_is_a_sheet_and_its_pictures_and_is_read_back(visit: Any, served: Served) -> None:
    here = visit()
    here.write(PROMPT, steps=2)
    before = set(served.out.glob("*.png"))
    here.page.locator("#pg_compare_part > button").click()  # it is closed at first
    ratios = here.page.locator("#pg_txt2img_compare_ratios input, #pg_txt2img_compare_ratios textarea").first
    ratios.fill("0, 1")
    here.page.click("#pg_compare")
    here.wait_for("Saved in")
    (sheet,) = (served.out / "grids").glob("*.png")
    assert len(set(served.out.glob("*.png")) - before) == 5  # three methods, two more ratios
    here.page.wait_for_function("() => document.querySelectorAll('#txt2img_gallery img').length >= 6")
    ratios.fill("")
    here.page.set_input_files("#pg_dropped input[type=file]", str(sheet))
    here.wait_for("The picture's settings are set.")
    assert ratios.input_value() == "0, 1"
    assert here.page.locator("#pg_txt2img_compare_methods input:checked").count() == 3


def test_what_cannot_be_is_said(visit: Any) -> None:
    here = visit()
    here.write("a star <lora:nothing:1>")
    here.page.click("#pg_generate")
    here.wait_for("Nothing was made: there is no network 'nothing'")


def test_a_second_visitor_waits_and_gets_pictures_when_the_first_cancels(visit: Any, served: Served) -> None:
    first, second = visit(), visit()
    count = len(list(served.out.glob("*.png")))
    first.write(PROMPT, steps=150)
    first.page.click("#pg_generate")
    first.page.locator("#txt2img_gallery").get_by_text("steps").first.wait_for(timeout=LONG)
    second.write(PROMPT)
    second.page.click("#pg_generate")
    second.page.locator("#txt2img_gallery").get_by_text(re.compile("queue")).first.wait_for(timeout=LONG)
    first.page.click("#pg_cancel")
    first.wait_for("Cancelled")
    second.wait_for("Saved in")
    assert len(list(served.out.glob("*.png"))) == count + 1


def test_a_visitor_who_closes_the_page_does_not_stop_the_server(visit: Any, served: Served) -> None:
    leaving = visit()
    leaving.write(PROMPT, steps=100)
    leaving.page.click("#pg_generate")
    leaving.page.locator("#txt2img_gallery").get_by_text("steps").first.wait_for(timeout=LONG)
    leaving.page.close()
    here = visit()
    here.write(PROMPT)
    here.page.click("#pg_generate")
    here.wait_for("Saved in")
    assert served.process.poll() is None
