"""What is recorded of the hosts, and what our adapters and stand-ins use of it.

`tools/record_contract.py` writes the records, `test_webuis.py` and `test_forge.py` hold us against them.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests.hosts.a1111 import lora_extension
from tests.hosts.a1111 import stand_in as a1111_stand_in
from tests.hosts.forge import network_files, sampling
from tests.hosts.forge import stand_in as forge_stand_in

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = "scripts/personalization_guidance.py"
COMPARE_SCRIPT = "scripts/personalization_guidance_compare.py"
ADAPTER = "lib_pg/hosts/webui/generation.py"
WEBUI_PASS = "lib_pg/hosts/webui/sampling_pass.py"
WATCH = "lib_pg/hosts/webui/sampler_watch.py"
A1111 = "lib_pg/hosts/a1111/sampling_pass.py"
A1111_NETWORKS = "lib_pg/hosts/a1111/networks.py"
A1111_MERGING = "lib_pg/hosts/a1111/merging.py"
CELLS = "lib_pg/hosts/webui/cells.py"
CHECKPOINTS = "lib_pg/hosts/webui/checkpoints.py"
LORA = "lib_pg/hosts/webui/lora_extension.py"
FORGE = "lib_pg/hosts/forge/sampling_pass.py"
FORGE_MERGING = "lib_pg/hosts/forge/merging.py"
FORGE_NETWORKS = "lib_pg/hosts/forge/networks.py"
FORGE_PATCHES = "lib_pg/hosts/forge/patches.py"
SHEETS = "lib_pg/hosts/webui/sheets.py"

RECORDS = [json.loads(path.read_text("utf-8")) for path in sorted(ROOT.glob("tests/contracts/*.json"))]
PROCESSING = "StableDiffusionProcessingTxt2Img"

# What only some hosts have: our adapter asks first. Newer ones guide without a CFG scale, too.
OPTIONAL = {"distilled_cfg_scale", "hr_cfg", "hr_distilled_cfg", "lora_patches", "patches", "set_clip_skip"}
MISSING = {"reForge": ["distilled_cfg_scale", "parameters_manual_cast", "set_clip_skip"]}
MISSING["Forge"] = ["ldm_patched_cast_weights"]  # each has its own mark of layers that cast
MISSING["Forge Classic"] = MISSING["reForge"]
MISSING["Forge Neo"] = ["load_lora_state_dict"]  # read where patches are not kept by file

# Those that keep the patches of networks by file.
BY_FILE = ("Forge", "Forge Neo")

# What our stand-in adds for the tests themselves.
OWN = {"NetworkModuleLora": {"change", "key", "layer"}, "Network": {"kind"}}
# What our own networks have, which go by the same name in a file.
OURS = {"parts"}

# By file, a name there and the class that the host gives it.
READS = [
    (ADAPTER, "network", "ExtraNetworkParams"),
    (ADAPTER, "self._p", PROCESSING),
    (WEBUI_PASS, "params", "CFGDenoiserParams"),
    (WEBUI_PASS, "self._p", PROCESSING),
    (WATCH, "sampler", "Sampler"),
    (LORA, "loaded", "Network"),
    (LORA, "loaded.network_on_disk", "NetworkOnDisk"),
    (SCRIPT, "params", "CFGDenoiserParams"),
]
# Of the hosts that were recorded since.
CHECKPOINT_READS = [(CHECKPOINTS, "info", "CheckpointInfo")]
COMPARE_READS = [
    (CELLS, "own", PROCESSING),
    (CELLS, "p", PROCESSING),
    (CELLS, "processed", "Processed"),
    (CELLS, "script", "Script"),
    (CELLS, "shared.state", "State"),
    (CELLS, "state", "State"),
    (SHEETS, "made.p", PROCESSING),
    (SHEETS, "own", PROCESSING),
    (SHEETS, "p", PROCESSING),
    (SHEETS, "processed", "Processed"),
]
A1111_READS = [
    (A1111_NETWORKS, "loaded", "Network"),
    (A1111_NETWORKS, "part", "NetworkModuleLora"),
    (A1111_NETWORKS, "part.network", "Network"),
    (A1111_MERGING, "network", "Network"),
    (A1111_MERGING, "part", "NetworkModule"),
    (A1111, "params", "CFGDenoiserParams"),
    (A1111, "params.denoiser", "CFGDenoiser"),
    (A1111, "n", "Network"),
]
FORGE_READS = [
    (FORGE, "params", "CFGDenoiserParams"),
    (FORGE, "p", PROCESSING),
    (FORGE, "self._p", PROCESSING),
    (FORGE, "patcher", "UnetPatcher"),
    (FORGE, "self._model.forge_objects", "ForgeObjects"),
    (FORGE, "self._model.forge_objects.unet", "UnetPatcher"),
    (FORGE_NETWORKS, "objects", "ForgeObjects"),
    (FORGE_NETWORKS, "objects.clip", "CLIP"),
    (FORGE_NETWORKS, "patcher", "UnetPatcher"),
    (FORGE_PATCHES, "patcher", "UnetPatcher"),
    (FORGE_PATCHES, "network", "Network"),
    (FORGE_PATCHES, "network.network_on_disk", "NetworkOnDisk"),
]
# By file, a function or class of the host that is called there.
CALLS = [
    ("lib_pg/page/accordion.py", "InputAccordion"),
    ("lib_pg/page/axes.py", "axis_option"),
    ("lib_pg/page/settings_page.py", "shared.OptionInfo"),
]

Record = dict[str, Any]


def is_forge(record: Record) -> bool:
    return "ForgeObjects" in record["classes"]


def label(record: Record) -> str:
    return " ".join(dict.fromkeys(f"{record['host']['name']} {record['host']['version']}".split()))


def reads_of(record: Record) -> list[tuple[str, str, str]]:
    more = CHECKPOINT_READS if "CheckpointInfo" in record["classes"] else []
    more = more + (COMPARE_READS if "Processed" in record["classes"] else [])
    return READS + more + (FORGE_READS if is_forge(record) else A1111_READS)


def cases(of: Callable[[Record], Iterable[Any]]) -> list[Any]:
    """Return all pairs of a record and what `of` gives for it."""
    return [
        pytest.param(
            record, case, id=f"{label(record)}: {' '.join(case) if isinstance(case, tuple) else case}"
        )
        for record in RECORDS
        for case in of(record)
    ]


def names(record: Record, name: str) -> set[str]:
    """Return what an object of a recorded class has, by its bases too."""
    if name not in record["classes"]:
        return set()
    found = record["classes"][name]
    inherited = [names(record, base) for base in found["bases"]]
    return set().union(found["attributes"], found["methods"], *inherited)


def unknown(record: Record, name: str, used: Iterable[str]) -> list[str]:
    """Return those of the names that the host's class does not have."""
    assert used, f"nothing of {name} is used: the check has lost its object"
    return sorted(set(used) - names(record, name))


def parse(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text("utf-8"))


def reads(tree: ast.AST, owner: str) -> set[str]:
    """Return the attributes that a file uses of what it calls `owner`, by getattr too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == owner:
            found.add(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node).startswith(f"getattr({owner},"):
            found |= {name.value for name in ast.walk(node.args[1]) if isinstance(name, ast.Constant)}
    return found


def own_of(thing: object) -> set[str]:
    """Return an object's attributes and methods, without those that Python or torch put there."""
    methods = {name for name, _ in inspect.getmembers(type(thing), inspect.isfunction)}
    return {name for name in methods | set(vars(thing)) if not name.startswith("_")}


def stand_ins(record: Record) -> Mapping[str, object]:
    if not is_forge(record):
        network = a1111_stand_in.Network("x")
        layer = nn.Linear(a1111_stand_in.WIDTH, a1111_stand_in.WIDTH)
        part = lora_extension.NetworkModuleLora(network, "x", layer, layer.weight.shape)
        return {
            "Network": network,
            "NetworkModuleLora": part,
            "Sampler": a1111_stand_in.Sampler(),
            PROCESSING: a1111_stand_in.Processing(),
            "NetworkOnDisk": network.network_on_disk,
        }
    engine = forge_stand_in.Engine(record["host"]["name"])
    used = network_files.Network("x")
    return {
        "CLIP": engine.forge_objects.clip,
        "ForgeObjects": engine.forge_objects,
        "Network": used,
        "NetworkOnDisk": used.network_on_disk,
        PROCESSING: sampling.Processing(),
        "Sampler": sampling.Sampler(),
        "UnetPatcher": engine.forge_objects.unet,
    }


def script_methods() -> Iterator[tuple[ast.FunctionDef, set[str]]]:
    """Yield the methods of our scripts, with the keyword arguments that each of them reads."""
    for file in (SCRIPT, COMPARE_SCRIPT):
        (script,) = [node for node in parse(file).body if isinstance(node, ast.ClassDef)]
        for method in script.body:
            if isinstance(method, ast.FunctionDef):
                keywords = {
                    ast.literal_eval(node.slice)
                    for node in ast.walk(method)
                    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "given"
                }
                yield method, keywords
