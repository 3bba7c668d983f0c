"""Record what a host offers of the names that the extension relies on.

    python tools/record_contract.py HOST_FOLDER tests/contracts/a1111-1.10.1.json
    python tools/record_contract.py HOST_FOLDER tests/contracts/forge-2.0.1.json

The host's files are parsed, never imported or run: any Python that reads them will do, and nothing
of the host need be installed. What is written are facts (files, parameters, names of attributes and keyword
arguments, orders of values), no code.
`tests/contracts/test_webuis.py` holds the extension and the stand-in hosts of the tests against them.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

# Where the host keeps code of its own; extensions and other people's repositories are no part of it.
ROOMS = ("modules", "modules_forge", "backend", "ldm_patched", "scripts", "extensions-builtin")
# Other people's code in the host's care: only the orders of values are of interest here.
LENT = ("packages_3rdparty",)

_OTHERS = ("extensions-builtin/", "scripts/")  # these define functions of the same names for themselves
_ENGINES = ("backend/", "ldm_patched/")

# By class, the file where it is looked for first; a host may keep it elsewhere.
CLASSES = {
    "AxisOption": "scripts/xyz_grid.py",
    "CFGDenoiserParams": "modules/script_callbacks.py",
    "CheckpointInfo": "modules/sd_models.py",
    "ExtraNetworkParams": "modules/extra_networks.py",
    "GridAnnotation": "modules/images.py",
    "InputAccordion": "modules/ui_components.py",
    "Network": "extensions-builtin/Lora/network.py",
    "NetworkOnDisk": "extensions-builtin/Lora/network.py",
    "OptionInfo": "modules/options.py",
    "Processed": "modules/processing.py",
    "Sampler": "modules/sd_samplers_common.py",
    "Script": "modules/scripts.py",
    "SdConditioning": "modules/prompt_parser.py",
    "State": "modules/shared_state.py",
    "StableDiffusionProcessing": "modules/processing.py",
    "StableDiffusionProcessingTxt2Img": "modules/processing.py",
}
# Every definition counts: methods of a kind of model, or functions of a module.
FUNCTIONS = (
    "create_infotext",
    "draw_grid_annotations",
    "fix_seed",
    "get_learned_conditioning",
    "image_grid",
    "list_models",
    "on_before_ui",
    "on_cfg_denoiser",
    "on_ui_settings",
    "process_images",
    "save_image",
    "updateTotal",
)
# The host's options about grids and the pictures in them.
OPTIONS = (
    "enable_pnginfo",
    "grid_extended_filename",
    "grid_format",
    "grid_save",
    "img_max_size_mp",
    "return_grid",
    "return_mask",
    "return_mask_composite",
)
# Names that are assigned somewhere: attributes that the host puts on its objects, and globals of a module.
ASSIGNED = (
    "alwayson_scripts",
    "axis_options",
    "checkpoints_list",
    "loaded_networks",
    "mask_for_overlay",
    "scripts_data",
    "sd_checkpoint_info",
)

A1111_CLASSES = {
    "CFGDenoiser": "modules/sd_samplers_cfg_denoiser.py",
    "NetworkModule": "extensions-builtin/Lora/network.py",
    "NetworkModuleLora": "extensions-builtin/Lora/network_lora.py",
}
A1111_FUNCTIONS = ("calc_updown", "network_Linear_forward", "network_apply_weights")
A1111_ASSIGNED = (
    "fp16_bias",
    "fp16_weight",
    "is_boft",
    "loaded_hypernetworks",
    "network_bias_backup",
    "network_layer_mapping",
    "network_weights_backup",
    "originals",
)
# These are the host's Lora extension's.
_OF_LORA = ("load_lora_state_dict", *A1111_FUNCTIONS)

FORGE_CLASSES = {
    "CLIP": "ldm_patched/modules/sd.py",
    "ForgeObjects": "modules_forge/forge_loader.py",
    "ModelPatcher": "ldm_patched/modules/model_patcher.py",
    "UnetPatcher": "modules_forge/unet_patcher.py",
}
FORGE_FUNCTIONS = ("sampling_prepare", "load_lora_state_dict", "set_clip_skip")
# What Forge alone has: its relatives keep merging with their patchers.
BACKEND_CLASSES = {"LoraLoader": "backend/patcher/lora.py"}
BACKEND_FUNCTIONS = ("load_model_gpu", "merge_lora_to_weight")
FORGE_ASSIGNED = (
    "current_lora_hash",
    "distilled_cfg_scale",
    "forge_objects",
    "forge_objects_after_applying_lora",
    "forge_objects_original",
    "ldm_patched_cast_weights",
    "parameters_manual_cast",
)
# Keys of the host's dictionaries.
FORGE_TEXTS = (
    "cond_or_uncond",
    "conditioning_modifiers",
    "crossattn",
    "guidance",
    "transformer_options",
    "vector",
)
# Values whose order matters, by names that are among them.
FORGE_ORDERS = {
    "lora": {"alpha", "mid"},
    "modifier": {"cond_scale", "model_options", "seed"},
    "patch": {"strength_patch", "strength_model"},
}
# What some of the hosts call otherwise.
ALIASES = {"ForgeObjects": "ForgeSD"}

COLUMNS = 140  # of a record, where names and values allow


def record(host: Path) -> dict[str, Any]:
    """Return the facts about the host in a folder."""
    trees = dict(_trees(host, ROOMS))
    forge = _name(host) != "AUTOMATIC1111"
    backend = (host / "backend").is_dir()
    wanted = CLASSES | (FORGE_CLASSES if forge else A1111_CLASSES) | (BACKEND_CLASSES if backend else {})
    classes = {name: _find_class(trees, name, wanted[name]) for name in sorted(wanted)}
    assert classes["Script"] is not None, f"{host} has no class Script: is it a host's folder?"
    methods = set(classes["Script"]["methods"])
    wanted_functions = FUNCTIONS + (FORGE_FUNCTIONS if forge else A1111_FUNCTIONS)
    wanted_functions += BACKEND_FUNCTIONS if backend else ()
    functions: dict[str, list[Any]] = {name: [] for name in wanted_functions}
    own = ASSIGNED + (FORGE_ASSIGNED if forge else A1111_ASSIGNED)
    assigned: dict[str, list[str]] = {name: [] for name in sorted(own)}
    calls: dict[str, list[Any]] = {}
    options: dict[str, list[str]] = {name: [] for name in OPTIONS}
    for file, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name in functions:
                if node.name in _OF_LORA or not file.startswith(_OTHERS):
                    functions[node.name].append({"file": file, "parameters": _signature(node)})
            elif isinstance(node, ast.Call) and (method := _script_call(node)) in methods:
                calls.setdefault(method, []).append({"file": file, "keywords": _keywords(node)})
            elif isinstance(node, ast.Constant) and node.value in options and file.endswith("_options.py"):
                options[node.value].append(file)
            for name in _targets(node):
                if name in assigned and file not in assigned[name]:
                    assigned[name].append(file)
    return {
        "host": {"name": _name(host), "version": _version(host), "commit": _commit(host)},
        "classes": {name: found for name, found in classes.items() if found is not None},
        "functions": functions,
        "assigned": assigned,
        "options": options,
        "script_calls": dict(sorted(calls.items())),
        **(_forge_facts(trees | dict(_trees(host, LENT))) if forge else {}),
        "missing": sorted(
            [name for name, found in classes.items() if found is None]
            + [name for name, found in (functions | assigned | options).items() if not found]
        ),
    }


def _forge_facts(trees: dict[str, ast.Module]) -> dict[str, Any]:
    """Return which keys and which orders of values the host uses, and how it calls its U-Net."""
    texts: dict[str, list[str]] = {text: [] for text in FORGE_TEXTS}
    orders: dict[str, list[Any]] = {name: [] for name in FORGE_ORDERS}
    unet_calls: list[Any] = []
    for file, tree in trees.items():
        if file.startswith(_OTHERS):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node.value in texts and file not in texts[node.value]:
                texts[node.value].append(file)
            elif file.startswith(_ENGINES) and _calls_unet(node):
                unet_calls.append({"file": file, "keywords": _keywords(node)})
            values = _values(node)
            for name, marks in FORGE_ORDERS.items():
                found = {"file": file, "values": values}
                if marks <= set(values) and found not in orders[name]:
                    orders[name].append(found)
    return {"texts": texts, "orders": orders, "unet_calls": unet_calls}


def _trees(host: Path, rooms: tuple[str, ...]) -> Iterator[tuple[str, ast.Module]]:
    for room in rooms:
        for path in sorted((host / room).rglob("*.py")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the host's escapes in texts
                try:
                    yield path.relative_to(host).as_posix(), ast.parse(path.read_bytes())
                except SyntaxError as error:  # hosts carry files along that nothing can import
                    print(f"left out: {path.relative_to(host)}: {error}")


def _find_class(trees: dict[str, ast.Module], name: str, first: str) -> dict[str, Any] | None:
    for file in [first, *trees]:
        for node in ast.walk(trees.get(file, ast.Module([], []))):
            if isinstance(node, ast.ClassDef) and node.name in (name, ALIASES.get(name)):
                return {"file": file, **_class(node)}
    for file, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == name:  # one that makes the object
                made = {"__init__": f"self, {_signature(node)}"}
                return {"file": file, "bases": [], "methods": made, "attributes": []}
    return None


def _class(node: ast.ClassDef) -> dict[str, Any]:
    """Return a class's bases, methods, and attributes: its own and those its methods give `self`."""
    methods = {child.name: _signature(child) for child in node.body if isinstance(child, ast.FunctionDef)}
    attributes = {name for child in node.body for name in _targets(child)}
    for child in ast.walk(node):
        for target in _stored(child):
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                attributes.add(target.attr)
    bases = [ast.unparse(base).rsplit(".", 1)[-1] for base in node.bases]
    return {"bases": bases, "methods": methods, "attributes": sorted(attributes)}


def _signature(node: ast.FunctionDef) -> str:
    """Return the names of the parameters as a definition has them, without types and defaults."""
    given = node.args
    names = [argument.arg for argument in given.posonlyargs + given.args]
    if given.vararg or given.kwonlyargs:
        names.append(f"*{given.vararg.arg}" if given.vararg else "*")
    names += [argument.arg for argument in given.kwonlyargs]
    return ", ".join(names + ([f"**{given.kwarg.arg}"] if given.kwarg else []))


def _script_call(node: ast.Call) -> str:
    """Return the method that the host calls on all scripts of a tab here, or nothing."""
    function = node.func
    if isinstance(function, ast.Attribute) and re.search(r"scripts(_current)?$", ast.unparse(function.value)):
        return function.attr
    return ""


def _calls_unet(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "self.diffusion_model"


def _keywords(call: ast.Call) -> list[str]:
    return [keyword.arg or "**" for keyword in call.keywords]


def _values(node: ast.AST) -> list[str]:
    """Return the values that are put together here, or given to a function without names."""
    if isinstance(node, (ast.Tuple, ast.List)) and isinstance(node.ctx, ast.Load):
        return [ast.unparse(value) for value in node.elts]
    return [ast.unparse(value) for value in node.args] if isinstance(node, ast.Call) else []


def _stored(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        targets = node.targets
        return [part for target in targets for part in getattr(target, "elts", [target])]
    return [node.target] if isinstance(node, (ast.AnnAssign, ast.AugAssign)) else []


def _targets(node: ast.AST) -> Iterator[str]:
    for target in _stored(node):
        if isinstance(target, (ast.Name, ast.Attribute)):
            yield target.id if isinstance(target, ast.Name) else target.attr


def _name(host: Path) -> str:
    if not (host / "modules_forge").is_dir():
        return "AUTOMATIC1111"
    if (host / "backend").is_dir():
        return "Forge Neo" if (host / "modules_forge/packages").is_dir() else "Forge"
    return "reForge" if (host / "ldm_patched/modules/weight_adapter").is_dir() else "Forge Classic"


def _version(host: Path) -> str | None:
    """Return the version that a Forge says it is, or the newest one in the host's list of changes."""
    own, changes = host / "modules_forge/forge_version.py", host / "CHANGELOG.md"
    file, pattern = (
        (own, r"""version = ["'](.*)["']""") if own.exists() else (changes, r"^## v?([0-9][0-9.]*)")
    )
    found = re.search(pattern, file.read_text("utf-8"), re.M) if file.exists() else None
    return found[1] if found else None


def _commit(host: Path) -> str | None:
    if not (host / ".git").exists():  # git would answer for a repository around it
        return None
    command = ["git", "-C", str(host), "rev-parse", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True)
    return answer.stdout.strip() or None


def _layout(value: Any, before: str = "") -> str:
    """Return `before` (an indent, and a name if it has one) and a value in JSON.

    What fits on a line is on one line; of what does not, neighbours share lines as words do.
    """
    line = before + json.dumps(value)
    if len(line) < COLUMNS or not isinstance(value, (dict, list)):
        return line
    indent = before[: len(before) - len(before.lstrip())]
    names = [f"{json.dumps(name)}: " for name in value] if isinstance(value, dict) else [""] * len(value)
    parts = list(value.values()) if isinstance(value, dict) else value
    rows: list[str] = []
    for name, part in zip(names, parts, strict=True):
        row = _layout(part, f"{indent} {name}")
        if rows and "\n" not in rows[-1] + row and len(f"{rows[-1]}, {row.lstrip()}") < COLUMNS:
            rows[-1] += f", {row.lstrip()}"
        else:
            rows.append(row)
    start, end = "{}" if isinstance(value, dict) else "[]"
    nested = any(isinstance(part, (dict, list)) for part in parts)
    return f"{before}{start}\n" + ",\n".join(rows) + (f"\n{indent}{end}" if nested else end)


def main(arguments: list[str]) -> None:
    if len(arguments) != 2:
        sys.exit("usage: python tools/record_contract.py HOST_FOLDER OUT.json")
    facts = record(Path(arguments[0]))
    Path(arguments[1]).write_text(_layout(facts) + "\n", encoding="utf-8")
    print(f"{facts['host']['name']} {facts['host']['version']}: missing {facts['missing'] or 'nothing'}")


if __name__ == "__main__":
    main(sys.argv[1:])
