"""The script that compares: its controls, and what a press of the host's Generate makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lib_pg.compare import DEFAULT_RATIOS, MODES, Cell, CompareError, Plan, Sheet, plan
from lib_pg.guidance import Mode
from lib_pg.hosts.webui import sheets
from lib_pg.hosts.webui.cells import CellFault, Made, fix_seed, make_cells, own_args
from lib_pg.hosts.webui.notices import Notices, collecting
from lib_pg.hosts.webui.sheets import Drawn, SheetTooLarge
from lib_pg.page.axes import override
from lib_pg.page.components import elem_id
from lib_pg.page.page_warning import warn_on_page
from lib_pg.settings import Settings, SettingsError

COMPARE_TITLE = "Personalization guidance: compare"

# In the parameters of a sheet; the host finds the script by its own key.
SCRIPT = "Script"
KEYS = ("Compare methods", "Compare weak ratios", "Compare CFG scales")

Fields = list[tuple[Any, "str | Callable[[Mapping[str, str]], Any]"]]


def build(tab: str) -> list[Any]:
    """Build the controls within the current gradio Blocks; they are the script's arguments, in this order."""
    import gradio as gr

    methods = gr.CheckboxGroup(
        list(MODES),
        value=list(MODES),
        label="Methods",
        info="A column for each; CFG is the picture without this extension.",
        elem_id=elem_id(tab, "compare_methods"),
    )
    ratios = gr.Textbox(
        DEFAULT_RATIOS,
        label="Weak ratios",
        info="A second sheet, with PG, or with AG where PG is not chosen. Write 0, 0.5, 1 or 0-1 (+0.25) or "
        "0-1 [5]; leave it empty for no second sheet.",
        max_lines=1,
        elem_id=elem_id(tab, "compare_ratios"),
    )
    scales = gr.Textbox(
        "",
        label="CFG scales",
        info="A row for each, written in the same way; leave it empty for the CFG scale set above.",
        max_lines=1,
        elem_id=elem_id(tab, "compare_scales"),
    )
    return [methods, ratios, scales]


def infotext_fields(controls: Sequence[Any]) -> Fields:
    """Return what pasting the parameters of a sheet sets."""
    methods, ratios, scales = controls
    return [(methods, _pasted_methods), (ratios, KEYS[1]), (scales, KEYS[2])]


def compare(p: Any, methods: Any = MODES, ratios: Any = DEFAULT_RATIOS, scales: Any = "", *_: Any) -> Any:
    """Make a comparison and return the host's result; what cannot be made is told, with no picture.

    Args:
        p: the host's processing object.
        methods: names of methods; see `lib_pg.compare.plan` for them and the others.
        ratios: weak ratios as a text.
        scales: CFG scales as a text.
    """
    try:
        settings = Settings.from_args(own_args(p))
        made = plan(settings, p.cfg_scale, methods, ratios, scales)
        if sheets.are_drawn(p):
            for sheet in made.sheets:
                sheets.check_size(p, len(sheet.rows) * p.batch_size * p.n_iter, len(sheet.rows[0]))
    except (CompareError, SettingsError, SheetTooLarge) as error:
        return _refused(p, f"nothing is compared. {error}")
    fix_seed(p)
    return collecting(_make)(p, made, parameters_of(methods, ratios, scales))


def _make(p: Any, plan: Plan, values: Mapping[str, str]) -> Any:
    """Make the cells and draw what was finished; None stands for a cell that was not."""
    cells, notices = plan.cells, Notices(p, warn_on_page)
    found: dict[Cell, Made] = {}
    try:
        for cell, made in zip(cells, make_cells(p, [_set_up(cell) for cell in cells]), strict=False):
            if made is not None:
                found[cell] = made
    except CellFault as error:
        notices.warn(f"the comparison ended early. {error}", whole=True)
    if not found:
        return sheets.nothing(p)
    drawn = []
    if sheets.are_drawn(p):
        for sheet in plan.sheets:
            drawn += _drawn(p, sheet, found, values)
    return sheets.result(drawn, [found[cell] for cell in cells if cell in found])


def _set_up(cell: Cell) -> Callable[[Any], None]:
    def set_up(p: Any) -> None:
        p.cfg_scale = cell.cfg_scale
        override(p, cell.settings)

    return set_up


def _drawn(p: Any, sheet: Sheet, found: Mapping[Cell, Made], values: Mapping[str, str]) -> list[Drawn]:
    """Draw a sheet and save it; there is none where none of its cells was finished."""
    there = [found[cell] for row in sheet.rows for cell in row if cell in found]
    if not there:
        return []
    count = max(len(made.pictures) for made in there)
    seeds = next(made.processed.all_seeds for made in there if len(made.pictures) == count)
    lines = sheet.lines(seeds[:count])
    rows = [[_picture(found.get(cell), index) for cell in cells] for _, index, cells in lines]
    picture = sheets.draw(rows, [cell.label for cell in sheet.rows[0]], [label for label, _, _ in lines])
    drawn = Drawn(picture, sheets.infotext_of(there[-1], values))
    sheets.save(p, drawn, there[-1])
    return [drawn]


def _picture(made: Made | None, index: int) -> Any:
    return made.pictures[index] if made is not None and index < len(made.pictures) else None


def _refused(p: Any, message: str) -> Any:
    notices = Notices(p, warn_on_page)
    notices.warn(message, whole=True)
    processed = sheets.nothing(p)
    notices.answer(processed)
    return processed


def parameters_of(methods: Sequence[str], ratios: str, scales: str) -> dict[str, str]:
    """Return what the parameters of a sheet say of what it compares, where that is something."""
    values = dict(zip(KEYS, (", ".join(methods), ratios.strip(), scales.strip()), strict=True))
    return {SCRIPT: COMPARE_TITLE} | {key: text for key, text in values.items() if text}


def chosen_methods(text: str) -> list[Mode]:
    """Return the methods that a sheet says it compares; none where it names none of them."""
    named = [name.strip() for name in text.split(",")]
    return [mode for mode in MODES if mode in named]


def _pasted_methods(params: Mapping[str, str]) -> Any:
    import gradio as gr

    chosen = chosen_methods(params.get(KEYS[0], ""))
    return gr.update(value=chosen) if chosen else gr.update()
