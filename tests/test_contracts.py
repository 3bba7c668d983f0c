"""What we rely on of a host exists there: facts recorded from its sources, against our stand-in and adapter.

`tools/record_contract.py` writes the records. A name that fails here was misspelt, or a new record lacks it:
then the host has changed, and our adapter has to.
"""

from __future__ import annotations

import ast
import copy
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests import a1111_stand_in as stand_in

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = "scripts/personalization_guidance.py"
ADAPTER = "lib_pg/hosts/webui.py"
NETWORKS = "lib_pg/hosts/a1111_networks.py"
PASS = "lib_pg/hosts/a1111.py"
WEBUI_PASS = "lib_pg/hosts/webui_pass.py"
WATCH = "lib_pg/hosts/sampler_watch.py"

RECORDS = [json.loads(path.read_text("utf-8")) for path in sorted(ROOT.glob("tests/contracts/a1111-*.json"))]
PROCESSING = "StableDiffusionProcessingTxt2Img"

# What our stand-in adds for the tests themselves.
OWN = {"Network": {"text_delta"}, "NetworkModuleLora": {"dense"}}

# By file, a name there and the class that the host gives it.
READS = [
    (ADAPTER, "network", "ExtraNetworkParams"),
    (ADAPTER, "self._p", PROCESSING),
    (NETWORKS, "loaded", "Network"),
    (NETWORKS, "loaded.network_on_disk", "NetworkOnDisk"),
    (NETWORKS, "part", "NetworkModuleLora"),
    (NETWORKS, "part.network", "Network"),
    (ADAPTER, "self._p", PROCESSING),
    (PASS, "params", "CFGDenoiserParams"),
    (WEBUI_PASS, "params", "CFGDenoiserParams"),
    (WEBUI_PASS, "self._p", PROCESSING),
    (WATCH, "sampler", "Sampler"),
    (PASS, "network", "Network"),
    (PASS, "n", "Network"),
    (SCRIPT, "params", "CFGDenoiserParams"),
]
# By file, a function or class of the host that is called there.
CALLS = [
    (PASS, "SdConditioning"),
    ("lib_pg/webui/accordion.py", "InputAccordion"),
    ("lib_pg/webui/axes.py", "axis_option"),
    ("lib_pg/webui/settings_page.py", "shared.OptionInfo"),
]

Record = dict[str, Any]


@pytest.fixture(params=RECORDS, ids=[f"{record['host']['version']}" for record in RECORDS])
def record(request: pytest.FixtureRequest) -> Record:
    found: Record = request.param
    return found


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
            found.add(ast.literal_eval(node.args[1]))
    return found


def own_of(thing: object) -> set[str]:
    """Return an object's attributes and methods, without those that Python or torch put there."""
    methods = {name for name, _ in inspect.getmembers(type(thing), inspect.isfunction)}
    return {name for name in methods | set(vars(thing)) if not name.startswith("_")}


def stand_ins() -> Mapping[str, object]:
    network = stand_in.Network("x")
    return {
        "Network": network,
        "NetworkModuleLora": stand_in.LoraPart(network, nn.Linear(stand_in.WIDTH, stand_in.WIDTH), 0),
        "Sampler": stand_in.Sampler(),
        PROCESSING: stand_in.Processing(),
        "NetworkOnDisk": network.network_on_disk,
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


def test_there_is_a_record_and_nothing_is_missing_there() -> None:
    assert RECORDS
    assert [found["missing"] for found in RECORDS] == [[]] * len(RECORDS)


@pytest.mark.parametrize("name", stand_ins())
def test_the_stand_in_has_only_what_the_host_has(record: Record, name: str) -> None:
    own = OWN.get(name, set())
    assert unknown(record, name, own_of(stand_ins()[name]) - own) == []
    assert not own & names(record, name), "the host has it: it is no helper of our own"


def test_the_stand_in_s_params_are_those_of_the_callback(record: Record) -> None:
    fields = stand_in.Params.__dataclass_fields__
    assert unknown(record, "CFGDenoiserParams", fields) == []
    given = record["classes"]["CFGDenoiserParams"]["methods"]["__init__"].split(", ")
    assert set(fields) <= set(given)


@pytest.mark.parametrize(("file", "owner", "name"), READS)
def test_the_adapter_reads_only_what_the_host_has(record: Record, file: str, owner: str, name: str) -> None:
    assert unknown(record, name, reads(parse(file), owner)) == []


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


@pytest.mark.parametrize(("file", "function"), CALLS)
def test_calls_of_the_host_fit_its_signatures(record: Record, file: str, function: str) -> None:
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
    assert record["assigned"]["network_layer_mapping"] and record["assigned"]["scripts_data"]


def test_a_model_s_encoder_takes_prompts_alone(record: Record) -> None:
    methods = [
        found["parameters"].split(", ")
        for found in record["functions"]["get_learned_conditioning"]
        if found["parameters"].startswith("self, ")
    ]
    assert methods and all(len(parameters) == 2 for parameters in methods)
    assert "get_learned_conditioning" in reads(parse(PASS), "self._model")


@pytest.mark.parametrize(
    ("name", "gone"),
    [("Network", "te_multiplier"), ("NetworkModuleLora", "calc_scale"), ("CFGDenoiserParams", "text_uncond")],
)
def test_a_name_that_the_host_drops_is_found(record: Record, name: str, gone: str) -> None:
    changed = copy.deepcopy(record)
    for found in changed["classes"].values():
        found["attributes"] = [attribute for attribute in found["attributes"] if attribute != gone]
        found["methods"].pop(gone, None)
    used = set().union(*[reads(parse(file), owner) for file, owner, about in READS if about == name])
    assert unknown(changed, name, used) == [gone]
