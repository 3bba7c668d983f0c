"""The accordion in a browser: with the keyboard, for screen readers, on narrow pages and in the dark."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import Server

if TYPE_CHECKING:
    from tests.browser.pages import Accordion

WIDTH = 400
READABLE = 4.5  # WCAG 2.2, level AA, for text of ordinary size

# The ratio of an element's colour to what is painted behind it.
_CONTRAST = """(element) => {
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = (colour) => {
        const [r, g, b] = colour.slice(0, 3).map((value) => {
            const part = value / 255;
            return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const text = light(numbers(getComputedStyle(element).color));
    let back = [255, 255, 255];
    for (let node = element; node; node = node.parentElement) {
        const colour = numbers(getComputedStyle(node).backgroundColor);
        if (colour.length < 4 || colour[3] === 1) {
            back = colour;
            break;
        }
    }
    const [low, high] = [text, light(back)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
}"""

# Whatever of an element's visible parts lies beyond the sides of the page.
_BEYOND = """(root) => [...root.querySelectorAll("*")]
    .filter((part) => part.checkVisibility() && part.getClientRects().length)
    .map((part) => [part.tagName, part.id, part.getBoundingClientRect()])
    .filter(([tag, id, box]) => box.width && (box.left < 0 || box.right > innerWidth))
    .map(([tag, id, box]) => `${tag} ${id} ${box.left} ${box.right}`)"""


def test_the_headers_are_reached_and_opened_with_the_keyboard(open_page: Callable[..., Accordion]) -> None:
    accordion = open_page()
    accordion.page.locator("#txt2img_cfg_scale input").last.focus()
    accordion.page.keyboard.press("Tab")
    for key, is_open in (("Enter", True), ("Space", False), ("Space", True)):
        assert accordion.header.evaluate("(header) => header === document.activeElement")
        accordion.page.keyboard.press(key)
        accordion.expect_open(is_open)
        if accordion.header.evaluate("(header) => header.tagName") != "BUTTON":
            assert accordion.header.get_attribute("role") == "button"
            assert accordion.header.get_attribute("aria-expanded") == str(is_open).lower()


def test_a_tick_in_the_header_switches_on_and_does_not_open_it(open_page: Callable[..., Accordion]) -> None:
    accordion = open_page("host")
    tick = accordion.header.get_by_role("checkbox")
    tick.focus()
    accordion.page.keyboard.press("Space")
    assert tick.is_checked()
    accordion.expect_line("no network to weaken")
    accordion.expect_open(False)
    accordion.set_prompt("<lora:sks_dog:1>")
    accordion.expect_line("sks_dog 1 -> 0.7 in the weak branch")


@pytest.mark.parametrize(
    "role", ["checkbox", "combobox", "radio", "slider", "spinbutton", "textbox", "button"]
)
def test_whatever_can_be_used_has_a_name(shown: Accordion, server: Server, role: str) -> None:
    names = shown.names(role)
    if role == "spinbutton" and server.version == "3.41.2":
        # There gradio names only the slider that is beside each number.
        names = shown.names("slider")
    assert all(names), names


def test_the_line_is_announced_when_it_changes(shown: Accordion) -> None:
    assert shown.part("line").get_by_role("status").get_attribute("aria-live") == "polite"


def test_a_narrow_page_need_not_be_moved_sideways(open_page: Callable[..., Accordion]) -> None:
    accordion = open_page(width=WIDTH)
    accordion.unfold()
    accordion.choose("schedule", "Linear")
    accordion.choose("hires", "Own")
    accordion.expect_shown("weak_ratio_end", True)
    accordion.expect_shown("hires_weak_ratio", True)
    assert accordion.page.evaluate("document.documentElement.scrollWidth") <= WIDTH
    assert accordion.root.evaluate(_BEYOND) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_are_readable_in_both_themes(
    shown: Accordion, open_page: Callable[..., Accordion], theme: str
) -> None:
    accordion = shown if theme == "light" else open_page(theme=theme)
    accordion.unfold()
    assert accordion.page.locator(".dark").count() == (1 if theme == "dark" else 0)
    texts = {
        "header": accordion.header.locator("span").first,
        "line": accordion.part("line").locator(".pg-note"),
        "mode": accordion.part("mode").get_by_text("Mode", exact=True),
        "weak ratio": accordion.part("weak_ratio").get_by_text("Weak ratio", exact=True),
        "option": accordion.part("mode").get_by_text("AG", exact=True),
    }
    ratios = {name: text.evaluate(_CONTRAST) for name, text in texts.items()}
    assert min(ratios.values()) >= READABLE, ratios
