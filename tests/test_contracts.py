"""What we rely on of a host exists there: facts recorded from its sources, against stand-ins and adapters.

`tools/record_contract.py` writes the records. A name that fails here was misspelt, or a new record lacks it:
then the host has changed, and our adapter has to.
"""

from __future__ import annotations

import ast
import copy
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests import a1111_stand_in, forge_networks, forge_sampling, forge_stand_in

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = "scripts/personalization_guidance.py"
ADAPTER = "lib_pg/hosts/webui.py"
WEBUI_PASS = "lib_pg/hosts/webui_pass.py"
WATCH = "lib_pg/hosts/sampler_watch.py"
A1111 = "lib_pg/hosts/a1111.py"
A1111_NETWORKS = "lib_pg/hosts/a1111_networks.py"
LORA = "lib_pg/hosts/lora_extension.py"
FORGE = "lib_pg/hosts/forge.py"
FORGE_NETWORKS = "lib_pg/hosts/forge_networks.py"

RECORDS = [json.loads(path.read_text("utf-8")) for path in sorted(ROOT.glob("tests/contracts/*.json"))]
PROCESSING = "StableDiffusionProcessingTxt2Img"

# What only some hosts have: our adapter asks first. Newer ones guide without a CFG scale, too.
OPTIONAL = {"distilled_cfg_scale", "hr_cfg", "hr_distilled_cfg", "lora_patches", "patches", "set_clip_skip"}
MISSING = {"reForge": ["distilled_cfg_scale", "set_clip_skip"]}
MISSING["Forge Classic"] = MISSING["reForge"]
MISSING["Forge Neo"] = ["load_lora_state_dict"]  # read where patches are not kept by file

# Those that keep the patches of networks by file.
BY_FILE = ("Forge", "Forge Neo")

# What our stand-in adds for the tests themselves.
OWN = {"NetworkModuleLora": {"dense"}, "Network": {"fused"}}
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
A1111_READS = [
    (A1111_NETWORKS, "loaded", "Network"),
    (A1111_NETWORKS, "part", "NetworkModuleLora"),
    (A1111_NETWORKS, "part.network", "Network"),
    (A1111, "params", "CFGDenoiserParams"),
    (A1111, "params.denoiser", "CFGDenoiser"),
    (A1111, "network", "Network"),
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
    (FORGE_NETWORKS, "network", "Network"),
    (FORGE_NETWORKS, "network.network_on_disk", "NetworkOnDisk"),
]
# By file, a function or class of the host that is called there.
CALLS = [
    ("lib_pg/webui/accordion.py", "InputAccordion"),
    ("lib_pg/webui/axes.py", "axis_option"),
    ("lib_pg/webui/settings_page.py", "shared.OptionInfo"),
]

Record = dict[str, Any]


def is_forge(record: Record) -> bool:
    return "ForgeObjects" in record["classes"]


def label(record: Record) -> str:
    return " ".join(dict.fromkeys(f"{record['host']['name']} {record['host']['version']}".split()))


@pytest.fixture(params=RECORDS, ids=label)
def record(request: pytest.FixtureRequest) -> Record:
    found: Record = request.param
    return found


def reads_of(record: Record) -> list[tuple[str, str, str]]:
    return READS + (FORGE_READS if is_forge(record) else A1111_READS)


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
        return {
            "Network": network,
            "NetworkModuleLora": a1111_stand_in.LoraPart(network, layer, 0),
            "Sampler": a1111_stand_in.Sampler(),
            PROCESSING: a1111_stand_in.Processing(),
            "NetworkOnDisk": network.network_on_disk,
        }
    engine = forge_stand_in.Engine(record["host"]["name"])
    used = forge_networks.Network("x")
    return {
        "CLIP": engine.forge_objects.clip,
        "ForgeObjects": engine.forge_objects,
        "Network": used,
        "NetworkOnDisk": used.network_on_disk,
        PROCESSING: forge_sampling.Processing(),
        "Sampler": forge_sampling.Sampler(),
        "UnetPatcher": engine.forge_objects.unet,
    }


def script_methods() -> Iterator[tuple[ast.FunctionDef, set[str]]]:
    """Yield the methods of our script, with the keyword arguments that each of them reads."""
    (script,) = [node for node in parse(SCRIPT).body if isinstance(node, ast.ClassDef)]
    for method in script.body:
        if isinstance(method, ast.FunctionDef):
            keywords = {
                ast.literal_eval(node.slice)
                for node in ast.walk(method)
                if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "given"
            }
            yield method, keywords


def test_there_is_a_record_of_every_host_and_nothing_is_missing_there() -> None:
    found = {record["host"]["name"]: record["missing"] for record in RECORDS}
    assert set(found) == {"AUTOMATIC1111", "Forge", "reForge", "Forge Classic", "Forge Neo"}
    assert found == {name: MISSING.get(name, []) for name in found}


@pytest.mark.parametrize(("record", "name"), cases(stand_ins))
def test_the_stand_in_has_only_what_the_host_has(record: Record, name: str) -> None:
    own = OWN.get(name, set())
    found = own_of(stand_ins(record)[name])
    optional = set() if record["host"]["name"] in BY_FILE else OPTIONAL - {"lora_patches", "patches"}
    assert unknown(record, name, found - own - optional) == []
    assert not own & names(record, name), "the host has it: it is no helper of our own"


@pytest.mark.parametrize("params", [a1111_stand_in.Params, forge_sampling.Params])
def test_the_stand_in_s_params_are_those_of_the_callback(record: Record, params: Any) -> None:
    fields = params.__dataclass_fields__
    assert unknown(record, "CFGDenoiserParams", fields) == []
    given = record["classes"]["CFGDenoiserParams"]["methods"]["__init__"].split(", ")
    assert set(fields) <= set(given)


@pytest.mark.parametrize(("record", "read"), cases(reads_of))
def test_the_adapter_reads_only_what_the_host_has(record: Record, read: tuple[str, str, str]) -> None:
    file, owner, name = read
    assert set(unknown(record, name, reads(parse(file), owner) - OURS)) <= OPTIONAL


def test_what_only_some_hosts_have_is_there_in_one_at_least() -> None:
    known = [
        names(record, PROCESSING) | names(record, "UnetPatcher") | set(record["functions"])
        for record in RECORDS
    ]
    assert set().union(*known) >= OPTIONAL


def test_the_script_s_methods_are_the_host_s(record: Record) -> None:
    methods = record["classes"]["Script"]["methods"]
    for method, keywords in script_methods():
        assert method.name in methods
        theirs = [name for name in methods[method.name].split(", ") if not name.startswith("*")]
        assert [argument.arg for argument in method.args.args] == theirs, method.name
        calls = record["script_calls"].get(method.name, [])
        assert all(set(call["keywords"]) >= keywords for call in calls), method.name
        assert calls or not keywords, f"{method.name}: nobody calls it"
        if any(set(call["keywords"]) - set(theirs) for call in calls):
            assert method.args.kwarg, f"{method.name} is given more than it takes"


def test_the_script_reads_a_keyword_argument() -> None:
    assert {name for _, keywords in script_methods() for name in keywords} == {"extra_network_data"}


@pytest.mark.parametrize(("file", "function"), [*CALLS, (None, "SdConditioning")])
def test_calls_of_the_host_fit_its_signatures(record: Record, file: str | None, function: str) -> None:
    file = file or (FORGE if is_forge(record) else A1111)
    name = {"axis_option": "AxisOption"}.get(function, function.rsplit(".", 1)[-1])
    parameters = record["classes"][name]["methods"]["__init__"].split(", ")[1:]
    calls = [
        node
        for node in ast.walk(parse(file))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == function
    ]
    assert calls
    for call in calls:
        free = parameters[len(call.args) :]
        assert len(call.args) <= len(parameters)
        assert "**kwargs" in free or {keyword.arg for keyword in call.keywords} <= set(free)


def test_callbacks_and_globals_are_the_host_s(record: Record) -> None:
    callbacks = {name for name in reads(parse(SCRIPT), "script_callbacks") if name.startswith("on_")}
    assert callbacks and callbacks <= set(record["functions"])
    assert all(record["functions"][name] for name in callbacks)
    # Our adapter finds the host's module by the name of this file, and the plot's by that of its own.
    assert [Path(file).stem for file in record["assigned"]["loaded_networks"]] == ["networks"]
    assert [Path(file).name for file in record["assigned"]["axis_options"]] == ["xyz_grid.py"]
    of_model = ["network_layer_mapping", "sd_checkpoint_info"]
    assert is_forge(record) or all(record["assigned"][name] for name in of_model)
    assert record["assigned"]["scripts_data"]


def test_a_model_s_encoder_takes_prompts_alone(record: Record) -> None:
    methods = [
        found["parameters"].split(", ")
        for found in record["functions"]["get_learned_conditioning"]
        if found["parameters"].startswith("self, ")
    ]
    assert methods and all(len(parameters) == 2 for parameters in methods)
    assert "get_learned_conditioning" in reads(parse(FORGE if is_forge(record) else A1111), "self._model")


def test_an_encoded_prompt_depends_on_what_the_host_says(record: Record) -> None:
    (call,) = [
        node
        for node in ast.walk(parse(WEBUI_PASS))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self._p.cached_params"
    ]
    theirs = record["classes"]["StableDiffusionProcessing"]["methods"]["cached_params"].split(", ")
    assert theirs == inspect.getfullargspec(forge_sampling.Processing.cached_params).args
    assert not call.keywords and len(call.args) == len(theirs) - 1


DROPPED = {
    "A1111": [("Network", "te_multiplier"), ("NetworkModuleLora", "calc_scale")],
    "Forge": [
        ("UnetPatcher", "add_conditioning_modifier"),
        ("NetworkOnDisk", "filename"),
        ("CLIP", "patcher"),
    ],
}


@pytest.mark.parametrize(
    ("record", "dropped"),
    cases(
        lambda record: [
            ("CFGDenoiserParams", "text_uncond"),
            *DROPPED["Forge" if is_forge(record) else "A1111"],
        ]
    ),
)
def test_a_name_that_the_host_drops_is_found(record: Record, dropped: tuple[str, str]) -> None:
    name, gone = dropped
    changed = copy.deepcopy(record)
    for found in changed["classes"].values():
        found["attributes"] = [attribute for attribute in found["attributes"] if attribute != gone]
        found["methods"].pop(gone, None)
    used = set().union(
        *[reads(parse(file), owner) for file, owner, about in reads_of(record) if about == name]
    )
    assert unknown(changed, name, used - OPTIONAL - OURS) == [gone]
