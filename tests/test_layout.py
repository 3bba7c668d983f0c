"""The arrows of the house, read from the imports themselves: inwards and down, no circle, nothing heavy.

A rule that is in the way says that a file stands in the wrong room. docs/architecture.md draws the rooms.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Which other rooms a room may import. `lib_pg` is the package's own face: its title and version.
CORE = {
    "lib_pg": set(),
    "accelerators": set(),
    "controls": set(),
    "guidance": set(),
    "prompt": set(),
    "ranges": set(),
    "settings": {"controls", "guidance"},
    "infotext": {"controls", "settings"},
    "presets": {"settings"},
    "compare": {"guidance", "ranges", "settings"},
    "deltas": set(),
    "formats": {"deltas"},
    "networks": {"accelerators", "deltas", "guidance", "settings"},
    "host": {"deltas", "networks"},
    "weak_branch": {"deltas"},
    "run": {"accelerators", "guidance", "host", "networks", "settings", "weak_branch"},
}
_ANY_OF_CORE = set(CORE) - {"formats"}
ROOMS = {
    **CORE,
    "hosts": {"formats", *_ANY_OF_CORE},
    "hosts.webui": {"hosts", "formats", *_ANY_OF_CORE},
    "hosts.a1111": {"hosts.webui", "formats", *_ANY_OF_CORE},
    "hosts.forge": {"hosts.webui", "formats", *_ANY_OF_CORE},
    "hosts.diffusers": {"hosts", "formats", *_ANY_OF_CORE},
    "hosts.detect": {"hosts.a1111", "hosts.forge", "hosts.webui"},
    "page": {"hosts.webui", *_ANY_OF_CORE},
    "cli": {"hosts.diffusers", *CORE},
    "cli.demo": {"cli", "hosts.diffusers", *CORE},
    "cli.generate": {"cli", "hosts.diffusers", *CORE},
    "cli.grid": {"cli", "cli.generate", *CORE},
    "cli.inspect": {"cli", *CORE},
    "cli.evaluate": {"cli", "hosts.diffusers", *CORE},
    "cli.serve": {"cli", "cli.generate", "page", "hosts.webui", "hosts.diffusers", "formats", *CORE},
    "__main__": {"cli"},
    "scripts": {"page", "hosts.detect", "hosts.webui", "lib_pg", "settings"},
}
# The only one that looks into the rooms above it: it lists the commands.
MAIN = "lib_pg.cli.main"

PACKAGES_OF_CORE = {"torch", "numpy", "safetensors"}
PACKAGES_OF_HOSTS = {"modules", "modules_forge", "backend", "ldm_patched", "gradio"}
STANDALONE = {"diffusers", "transformers", "PIL", "tqdm", "accelerate", "matplotlib"}
# The drawn world belongs to the clone, not to the package: one command looks for it.
DRAWN_WORLD = ("training", "cli.evaluate")
# One command has a page without a WebUI.
OWN_PAGE = ("gradio", "cli.serve")
# What a command line may not wait for before it answers.
LIGHT = "lib_pg.cli.main"

LINES_MAX = 400
FOLDERS = ("lib_pg", "scripts", "tests", "tools", "benchmarks", "training", "docs")
WRITTEN = {".py", ".md", ".toml", ".css", ".txt", ".json"}


@dataclass(frozen=True)
class Import:
    """One import: `target` is a module of ours, or another package's first name; `at_once` when loaded."""

    importer: str
    target: str
    at_once: bool


def _modules() -> dict[str, Path]:
    files = [*ROOT.glob("lib_pg/**/*.py"), *ROOT.glob("scripts/*.py")]
    return {_name_of(path.relative_to(ROOT)): path for path in files}


def _name_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = _modules()


def _imports(importer: str) -> Iterator[Import]:
    """Yield a module's imports; those of TYPE_CHECKING alone are for the type checker and never run."""

    def visit(node: ast.AST, at_once: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            for target in _targets(child):
                yield Import(importer, target, at_once)
            yield from visit(child, at_once and not inside)

    yield from visit(ast.parse(MODULES[importer].read_text("utf-8")), True)


def _targets(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0 and node.module, "imports are absolute here"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        names = [name if name in MODULES else node.module for name in names]
    else:
        return
    for name in names:
        yield name if name.partition(".")[0] == "lib_pg" else name.partition(".")[0]


IMPORTS = [each for name in MODULES for each in _imports(name)]
OF_OURS = [each for each in IMPORTS if each.target in MODULES]


def _room(module: str) -> str:
    """Return the longest name of a room that a module lies in."""
    parts = module.removeprefix("lib_pg.").split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in ROOMS), module)


def _reached(start: str, at_once: bool) -> set[str]:
    """Return everything that is imported when `start` is, packages of others too."""
    found, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [each.target for each in IMPORTS if each.importer == name and each.at_once >= at_once]
            waiting += [name.rpartition(".")[0]] if name in MODULES and "." in name else []
    return found


def test_every_file_lies_in_a_room_and_every_room_has_files() -> None:
    assert {_room(module) for module in MODULES} == set(ROOMS)


def test_imports_point_inwards_and_down() -> None:
    wrong = [
        f"{each.importer} imports {each.target}"
        for each in OF_OURS
        if (room := _room(each.importer)) != (into := _room(each.target))
        and into not in ROOMS[room]
        and not (each.importer == MAIN and into.startswith("cli."))
    ]
    assert wrong == []


def test_there_is_no_circle() -> None:
    arrows: dict[str, set[str]] = {module: set() for module in MODULES}
    for each in OF_OURS:
        if each.importer != each.target:
            arrows[each.importer].add(each.target)
    while free := [module for module, targets in arrows.items() if not targets]:
        for module in free:
            del arrows[module]
        for targets in arrows.values():
            targets.difference_update(free)
    assert sorted(arrows) == []


def test_packages_of_hosts_are_imported_in_hosts_and_page_alone() -> None:
    allowed = {
        "hosts": PACKAGES_OF_CORE | PACKAGES_OF_HOSTS,
        "page": PACKAGES_OF_HOSTS,
        "scripts": {"modules"},
        "cli": PACKAGES_OF_CORE | STANDALONE,
    }
    wrong = [
        f"{each.importer} imports {each.target}"
        for each in IMPORTS
        if each.target not in MODULES
        and each.target not in sys.stdlib_module_names
        and each.target not in allowed.get(_room(each.importer).partition(".")[0], PACKAGES_OF_CORE)
        and (each.target, _room(each.importer)) not in (DRAWN_WORLD, OWN_PAGE)
    ]
    assert wrong == []


def test_hosts_packages_are_not_imported_before_the_host_runs_us() -> None:
    wrong = [
        f"{each.importer} imports {each.target}"
        for each in IMPORTS
        if each.at_once
        and each.target in PACKAGES_OF_HOSTS
        and _room(each.importer) != "scripts"
        and (each.target, _room(each.importer)) != OWN_PAGE
    ]
    assert wrong == []


def test_a_command_line_is_read_without_anything_heavy() -> None:
    reached = _reached(LIGHT, at_once=True)
    assert {name for name in reached if name.startswith("lib_pg.cli.") and name.endswith(".options")}
    assert reached - set(MODULES) <= sys.stdlib_module_names


def test_what_runs_in_a_webui_is_imported_when_the_scripts_are() -> None:
    """After an update on the disk, an import in mid-run would bring new code to the old."""
    scripts = ("scripts.personalization_guidance", "scripts.personalization_guidance_compare")
    chosen = {
        "lib_pg.hosts.a1111.sampling_pass",
        "lib_pg.hosts.forge.sampling_pass",
    }  # one, at once, by detect
    at_once = set().union(*(_reached(name, at_once=True) for name in (*scripts, *chosen)))
    at_all = set().union(*(_reached(name, at_once=False) for name in scripts))
    later = {name for name in at_all if name in MODULES} - at_once
    assert later == set()


def test_files_can_be_read_in_one_sitting() -> None:
    inside = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    ours = [
        path for path in [*ROOT.iterdir(), *inside] if path.suffix in WRITTEN and "bundled" not in path.parts
    ]
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines()) for path in ours}
    assert len(lengths) > len(MODULES)
    assert {name: length for name, length in lengths.items() if length > LINES_MAX} == {}


def test_the_drawing_names_only_what_there_is() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"`((?:lib_pg|tests|tools|docs)/[a-z\d_/.]*)`", text))  # KIND is yours to name
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    inside = set(re.findall(r"`((?:hosts|page|cli|deltas|formats|weak_branch)/[a-z\d_/.]*)`", text))
    assert [name for name in sorted(inside) if not (ROOT / "lib_pg" / name).exists()] == []
