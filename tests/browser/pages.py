"""What a user does with the accordion and sees of it, in terms of a browser."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Locator, Page, expect

_SECONDS = 20
OFF = (
    "Off: pictures are made as if the extension were not there. "
    "To begin, tick it and write a prompt with a LoRA, such as <lora:name:1>."
)

expect.set_options(timeout=_SECONDS * 1000)


class Accordion:
    """The accordion of one tab on a page.

    Attributes:
        page: the page.
        errors: what went wrong in its scripts and calls; what it misses from elsewhere does not count.
    """

    def __init__(self, page: Page, tab: str) -> None:
        self.page = page
        self.errors: list[str] = []
        self._tab = tab
        self._address = ""
        self._calls: set[Any] = set()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._note_message)
        page.on("request", self._note_call)
        page.on("requestfinished", lambda call: self._calls.discard(call))
        page.on("requestfailed", lambda call: self._calls.discard(call))

    def load(self, address: str, width: int = 1000, height: int = 900) -> None:
        """Open the page, and the tab, and wait until what runs at its start is done."""
        self._address = address.partition("?")[0]
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.goto(address, wait_until="commit")
        self.expect_line(OFF)
        self.settle()
        if self._tab != "txt2img":
            self.page.locator(".tab-nav button", has_text=self._tab).click()

    def settle(self) -> None:
        """Wait until no call to the server is under way: a late answer would undo what a test does."""
        for _ in range(_SECONDS * 50):
            if not self._calls:
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"the server does not answer: {self._calls}")

    @property
    def root(self) -> Locator:
        return self.page.locator(f"#pg_{self._tab}")

    @property
    def header(self) -> Locator:
        return self.root.locator(".label-wrap").first

    def part(self, name: str) -> Locator:
        """Return a part of the accordion by the end of its elem_id."""
        return self.page.locator(f"#pg_{self._tab}_{name}").first  # gradio 3 gives it to two boxes of an HTML

    def unfold(self) -> None:
        """Open the accordion and the one within."""
        for header in (self.header, self.part("advanced").locator(".label-wrap")):
            if "open" not in (header.get_attribute("class") or "").split():
                header.click()
        expect(self.part("schedule")).to_be_visible()

    def tick(self) -> None:
        self.part("enabled").get_by_role("checkbox").check()

    def type_prompt(self, text: str) -> None:
        """Type it key by key: every key is an event for the line."""
        self.page.locator(f"#{self._tab}_prompt textarea").press_sequentially(text)

    def set_prompt(self, text: str) -> None:
        """Put a text in the prompt's place, as pasting does."""
        self.page.locator(f"#{self._tab}_prompt textarea").fill(text)

    def choose(self, name: str, value: str) -> None:
        self.part(name).get_by_role("radio", name=value, exact=True).check()

    def set_number(self, name: str, value: float) -> None:
        field = self.number(name)
        field.fill(f"{value:g}")
        field.blur()

    def number(self, name: str) -> Locator:
        return self.part(name).locator("input[type=number]")

    def pick(self, name: str, option: str) -> None:
        """Choose from a list that opens."""
        self._listed(name).filter(has_text=option).click()

    def choose_script(self, title: str) -> None:
        """Choose one of the host's scripts."""
        self.page.locator("#script_list input").click()
        self.page.locator("ul.options li").filter(has_text=title).click()

    def picked(self, name: str) -> list[str]:
        """Return what a list of several has chosen."""
        return [text.strip() for text in self.part(name).locator(".token").all_inner_texts()]

    def chosen(self, name: str) -> str:
        """Return what a list of one has chosen."""
        return self.part(name).locator("input").input_value()

    def options(self, name: str) -> list[str]:
        """Return what a list offers."""
        options = self._listed(name)
        expect(options.first).to_be_visible()
        texts = [text.strip().lstrip("✓").strip() for text in options.all_text_contents()]
        self.part(name).locator("input").blur()
        expect(options).to_have_count(0)
        return texts

    def names(self, role: str) -> list[str]:
        """Return the names that the browser tells screen readers, of all parts with a role."""
        session = self.page.context.new_cdp_session(self.page)
        session.send("DOM.getDocument")
        root = session.send("Runtime.evaluate", {"expression": f"document.querySelector('#pg_{self._tab}')"})
        query = {"objectId": root["result"]["objectId"], "role": role}
        nodes = session.send("Accessibility.queryAXTree", query)["nodes"]
        session.detach()
        return [node.get("name", {}).get("value", "") for node in nodes if not node["ignored"]]

    def expect_line(self, text: str) -> None:
        expect(self.part("line")).to_contain_text(text)

    def expect_message(self, text: str) -> None:
        expect(self.part("preset_message")).to_contain_text(text)

    def expect_no_message(self, text: str) -> None:
        expect(self.part("preset_message")).not_to_contain_text(text)

    def expect_shown(self, name: str, shown: bool) -> None:
        expect(self.part(name)).to_be_visible(visible=shown)

    def expect_chosen(self, name: str, value: str) -> None:
        expect(self.part(name).locator("input")).to_have_value(value)

    def expect_enabled(self, name: str, enabled: bool) -> None:
        for option in self.part(name).get_by_role("radio").all():
            expect(option).to_be_enabled(enabled=enabled)

    def expect_section(self, label: str) -> None:
        """Expect the header of the closed section to be just this, but for its arrow."""
        header = self.part("advanced").locator(".label-wrap > span").first
        expect(header).to_have_text(label)

    def expect_number(self, name: str, value: float) -> None:
        expect(self.number(name)).to_have_value(f"{value:g}")

    def expect_open(self, is_open: bool) -> None:
        expect(self.header).to_have_class(
            re.compile(r"\bopen\b") if is_open else re.compile(r"^(?!.*\bopen\b)")
        )
        expect(self.part("line")).to_be_visible(visible=is_open)

    def _listed(self, name: str) -> Locator:
        """Open a list and return its options; gradio 3 gives them no role."""
        self.part(name).locator("input").click()
        return self.page.locator("ul.options li")

    def _note_message(self, message: Any) -> None:
        from_here = message.location.get("url", "").startswith(self._address)
        if message.type == "error" and from_here and "https://" not in message.text:
            self.errors.append(message.text)

    def _note_call(self, request: Any) -> None:
        if request.method == "POST":
            self._calls.add(request)
