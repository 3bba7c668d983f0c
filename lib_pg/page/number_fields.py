"""A number field that was cleared: gradio makes the least number of it, here the strongest setting."""

from __future__ import annotations

from lib_pg.page.components import on_page_load


def keep_numbers(tab: str) -> None:
    """Let the fields of a tab's accordion go back to their last number when they are left empty."""
    on_page_load(None, [], [], _script(f"pg_{tab}"))


def _script(accordion_id: str) -> str:
    """Return JavaScript that acts before gradio's own listeners, which lie on the fields themselves."""
    return f"""() => {{
        const root = document.querySelector("#{accordion_id}");
        const isNumber = (element) => element instanceof HTMLInputElement && element.type === "number";
        root.addEventListener("focus", (event) => {{
            if (isNumber(event.target)) event.target.dataset.pgLast = event.target.value;
        }}, true);
        root.addEventListener("input", (event) => {{
            const field = event.target;
            if (isNumber(field) && field.value !== "") field.dataset.pgLast = field.value;
        }}, true);
        root.addEventListener("blur", (event) => {{
            const field = event.target;
            if (!isNumber(field) || field.value !== "" || !field.dataset.pgLast) return;
            field.value = field.dataset.pgLast;
            field.dispatchEvent(new Event("input", {{ bubbles: true }}));
        }}, true);
        return [];
    }}"""
