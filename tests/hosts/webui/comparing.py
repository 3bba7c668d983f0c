"""Our stand-in for what a WebUI offers a script that makes several pictures of one request.

A picture's colour says what made it, so that a picture in the wrong place is seen.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from lib_pg import TITLE
from lib_pg.page.axes import overrides_of

SIZE = 16
RANDOM_SEED = 4321


class Processing:
    """The host's `p`."""

    def __init__(self, args: list[Any] | None = None, **values: Any) -> None:
        self.prompt = "a cat"
        self.seed: Any = 5
        self.cfg_scale = 7.0
        self.steps = 8
        self.width = self.height = SIZE
        self.batch_size = self.n_iter = 1
        self.styles: list[str] = []
        self.override_settings: dict[str, Any] = {}
        self.extra_generation_params: dict[str, Any] = {}
        self.comments: dict[str, int] = {}
        self.outpath_grids = "grids"
        self.do_not_save_grid = False
        self.enable_hr = False
        self.hr_scale, self.hr_resize_x, self.hr_resize_y = 2.0, 0, 0
        self.hr_second_pass_steps = 0
        self.mask_for_overlay: Any = None
        self.all_prompts: list[str] = []
        self.all_seeds: list[int] = []
        self.all_subseeds: list[int] = []
        script = SimpleNamespace(title=lambda: TITLE, args_from=1, args_to=3)
        self.scripts = SimpleNamespace(alwayson_scripts=[script])
        self.script_args = [0, *(args or []), *[False] * (2 - len(args or [])), "another's"]
        for name, value in values.items():
            assert hasattr(self, name), name
            setattr(self, name, value)

    def comment(self, text: str) -> None:
        self.comments[text] = 1


class Processed:
    """The host's result."""

    def __init__(self, p: Processing, images_list: list[Any], infotexts: list[str] | None = None) -> None:
        self.images = images_list
        self.infotexts = infotexts or []
        self.info = self.infotexts[0] if self.infotexts else ""
        self.index_of_first_image = 0
        self.all_prompts, self.all_seeds = p.all_prompts, p.all_seeds
        self.all_negative_prompts = [""] * len(p.all_prompts)
        self.all_subseeds = p.all_subseeds
        self.comments = "".join(f"{comment}\n" for comment in p.comments)
        self.extra_generation_params = p.extra_generation_params


class Host:
    """The host's modules; `before` is called with each cell's `p`, as scripts are."""

    def __init__(self) -> None:
        self.before: Callable[[Processing], None] = lambda p: None
        self.made: list[Processing] = []
        self.saved: list[tuple[Any, str, dict[str, Any]]] = []
        self.labels: list[tuple[list[str], list[str]]] = []
        self.total = 0
        self.opts = SimpleNamespace(
            return_grid=True, grid_save=True, grid_format="png", grid_extended_filename=False,
            img_max_size_mp=200, enable_pnginfo=True, return_mask=False, return_mask_composite=False,
        )  # fmt: skip
        self.state = SimpleNamespace(
            interrupted=False, skipped=False, stopping_generation=False, job="", job_count=-1
        )

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        modules: Any = ModuleType("modules")
        modules.processing = SimpleNamespace(
            Processed=Processed,
            process_images=self.process_images,
            fix_seed=self.fix_seed,
            create_infotext=self.create_infotext,
        )
        modules.images = SimpleNamespace(
            GridAnnotation=lambda text: text,
            image_grid=self.image_grid,
            draw_grid_annotations=self.draw_grid_annotations,
            save_image=self.save_image,
        )
        total = SimpleNamespace(updateTotal=lambda new_total: setattr(self, "total", new_total))
        modules.shared = SimpleNamespace(opts=self.opts, state=self.state, total_tqdm=total)
        monkeypatch.setitem(sys.modules, "modules", modules)
        monkeypatch.setitem(sys.modules, "gradio", SimpleNamespace(Warning=lambda message: None))

    def process_images(self, p: Processing) -> Processed:
        self.state.skipped = False
        self.before(p)
        count = p.batch_size * p.n_iter
        p.all_prompts = [p.prompt] * count
        p.all_seeds = [p.seed + index for index in range(count)]
        p.all_subseeds = [0] * count
        masks = [self.opts.return_mask, self.opts.return_mask_composite].count(True)
        images, infotexts = [], []
        for index in range(count):
            infotexts.append(infotext(p, index))
            images.append(Image.new("RGB", (p.width, p.height), colour(infotexts[-1])))
            images += [Image.new("RGB", (p.width, p.height))] * (masks if p.mask_for_overlay else 0)
        processed = Processed(p, images, infotexts)
        if self.opts.return_grid and not p.do_not_save_grid and count > 1:
            processed.images.insert(0, Image.new("RGB", (1, 1)))
            processed.infotexts.insert(0, "the host's own grid")
            processed.index_of_first_image = 1
        processed.images.append(Image.new("RGB", (2, 2)))  # some scripts append what they detected
        self.made.append(p)
        return processed

    def fix_seed(self, p: Processing) -> None:
        p.seed = RANDOM_SEED if p.seed == -1 else p.seed

    def create_infotext(self, p: Processing, all_prompts: Any, all_seeds: Any, all_subseeds: Any) -> str:
        assert (all_prompts, all_seeds, all_subseeds) == (p.all_prompts, p.all_seeds, p.all_subseeds)
        return infotext(p, 0)

    def image_grid(self, imgs: list[Any], batch_size: int = 1, rows: int | None = None) -> Any:
        assert rows
        columns = len(imgs) // rows
        width, height = imgs[0].size
        grid = Image.new("RGB", (columns * width, rows * height))
        for index, image in enumerate(imgs):
            grid.paste(image, (index % columns * width, index // columns * height))
        return grid

    def draw_grid_annotations(
        self, im: Any, width: int, height: int, hor_texts: list[list[str]], ver_texts: list[list[str]]
    ) -> Any:
        assert im.size == (width * len(hor_texts), height * len(ver_texts))
        self.labels.append(([text for (text,) in hor_texts], [text for (text,) in ver_texts]))
        return im

    def save_image(self, image: Any, path: str, basename: str, **given: Any) -> None:
        self.saved.append((image, f"{path}/{basename}", given))


def infotext(p: Processing, index: int) -> str:
    """Return what makes a picture: all of it, so that one of another cell's settings is seen."""
    made = {"seed": p.all_seeds[index], "scale": p.cfg_scale, **overrides_of(p), **p.extra_generation_params}
    return ", ".join(f"{name} {value}" for name, value in made.items())


def colour(text: str) -> tuple[int, int, int]:
    """Return a colour of its own for a text, and never black."""
    number = sum((index + 1) * ord(character) for index, character in enumerate(text))
    return 1 + number % 251, number // 251 % 251, number % 13
