"""Opening and closing the accordion without a mouse: gradio 3 makes its headers from plain boxes."""

from __future__ import annotations

from lib_pg.page.components import on_page_load


def reach_headers(tab: str) -> None:
    """Let the headers of a tab's accordion take the focus, and answer to Enter and Space."""
    on_page_load(None, [], [], _script(f"pg_{tab}"))


def _script(accordion_id: str) -> str:
    return f"""() => {{
        const headers = document.querySelectorAll("#{accordion_id} .label-wrap:not(button)");
        for (const header of headers) {{
            const tell = () => header.setAttribute("aria-expanded", header.classList.contains("open"));
            tell();
            header.tabIndex = 0;
            header.setAttribute("role", "button");
            new MutationObserver(tell).observe(header, {{ attributeFilter: ["class"] }});
            header.addEventListener("keydown", (event) => {{
                if (event.target !== header || (event.key !== "Enter" && event.key !== " ")) return;
                event.preventDefault();
                header.click();
            }});
        }}
        return [];
    }}"""
