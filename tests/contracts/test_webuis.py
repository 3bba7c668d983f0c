"""What we rely on of a host exists there: facts recorded from its sources, against stand-ins and adapters.

A name that fails here was misspelt, or a new record lacks it: then the host has changed, and our adapter
has to.
"""

from __future__ import annotations

import ast
import copy
import inspect
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.records import (
    A1111,
    A1111_MERGING,
    BY_FILE,
    CALLS,
    CELLS,
    FORGE,
    MISSING,
    OPTIONAL,
    OURS,
    OWN,
    PROCESSING,
    RECORDS,
    SCRIPT,
    SHEETS,
    WEBUI_PASS,
    Record,
    cases,
    is_forge,
    label,
    names,
    own_of,
    parse,
    reads,
    reads_of,
    script_methods,
    stand_ins,
    unknown,
)
from tests.hosts.a1111 import lora_extension
from tests.hosts.a1111 import stand_in as a1111_stand_in
from tests.hosts.forge import sampling
from tests.hosts.webui import comparing


@pytest.fixture(params=RECORDS, ids=label)
def record(request: pytest.FixtureRequest) -> Record:
    found: Record = request.param
    return found


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


@pytest.mark.parametrize("params", [a1111_stand_in.Params, sampling.Params])
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
    assert is_forge(record) or all(record["assigned"].values())
    assert record["assigned"]["scripts_data"]


@pytest.mark.parametrize("record", [record for record in RECORDS if not is_forge(record)], ids=label)
def test_a_linear_layer_s_forward_is_known_as_the_host_has_it(record: Record) -> None:
    (found,) = record["functions"]["network_Linear_forward"]
    assert found["parameters"] == "self, input" and Path(found["file"]).stem == "networks"
    assert "extensions-builtin/Lora/networks.py" in record["assigned"]["originals"]


@pytest.mark.parametrize("record", [record for record in RECORDS if not is_forge(record)], ids=label)
def test_merging_of_a_layer_is_asked_for_as_the_host_does(record: Record) -> None:
    tree = parse(A1111_MERGING)
    for function, own in (
        ("network_apply_weights", lora_extension.network_apply_weights),
        ("calc_updown", None),
    ):
        calls = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and function in ast.unparse(node.func)
        ]
        given = [
            found["parameters"].removeprefix("self, ").split(", ") for found in record["functions"][function]
        ]
        assert calls and all(len(call.args) == len(parameters) == 1 for call in calls for parameters in given)
        assert own is None or len(inspect.signature(own).parameters) == 1
    kept = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and str(node.value).endswith("backup")
    }
    assert kept == {"network_weights_backup", "network_bias_backup"} <= set(record["assigned"])


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
    assert theirs == inspect.getfullargspec(sampling.Processing.cached_params).args
    assert not call.keywords and len(call.args) == len(theirs) - 1


COMPARED = [record for record in RECORDS if "options" in record]  # of the hosts that were recorded since


@pytest.mark.parametrize("record", COMPARED, ids=label)
def test_several_pictures_are_made_and_drawn_as_the_host_does(record: Record) -> None:
    """What is called, with which arguments and options, in our code and in the stand-in's place of it."""
    host, stand_in = comparing.Host(), set[str]()
    for file in (CELLS, SHEETS):
        tree = parse(file)
        options = {ast.literal_eval(call.args[1]) for call in _calls(tree, "option")}
        assert options and options <= set(record["options"]) & set(vars(host.opts))
        for module in ("processing", "images"):
            for name in reads(tree, module) - {"Processed", "GridAnnotation"}:
                stand_in.add(name)
                theirs, own = _parameters(record, name), inspect.signature(getattr(host, name)).parameters
                named = [one.name for one in own.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
                assert named == theirs[: len(named)], name
                for call in _calls(tree, f"{module}.{name}"):
                    free = theirs[len(call.args) :]
                    assert len(call.args) <= len(theirs)
                    assert {keyword.arg for keyword in call.keywords} <= set(free), name
    assert len(stand_in) == 6
    assert reads(parse(CELLS), "shared.total_tqdm") == {"updateTotal"} and record["functions"]["updateTotal"]
    assert set(vars(host.state)) <= names(record, "State")
    own_p = set(vars(comparing.Processing())) - {"mask_for_overlay"}
    assert unknown(record, PROCESSING, own_p) == []
    assert unknown(record, "Processed", set(vars(comparing.Processed(comparing.Processing(), [])))) == []
    given = record["classes"]["Processed"]["methods"]["__init__"].split(", ")
    assert given[1:3] == ["p", "images_list"]
    assert record["classes"]["GridAnnotation"]["methods"]["__init__"].split(", ")[1] == "text"
    assert all(record["assigned"][name] for name in ("alwayson_scripts", "mask_for_overlay"))


def _parameters(record: Record, name: str) -> list[str]:
    (found,) = record["functions"][name]
    parameters: list[str] = found["parameters"].split(", ")
    return parameters


def _calls(tree: ast.Module, function: str) -> list[ast.Call]:
    return [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == function
    ]


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
