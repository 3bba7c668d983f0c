"""What we rely on of Forge and its relatives alone exists there, in the order in which we read it."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from lib_pg.hosts.forge import merging
from lib_pg.hosts.forge.patches import Patch
from tests.contracts.records import (
    BY_FILE,
    FORGE,
    FORGE_MERGING,
    FORGE_NETWORKS,
    OPTIONAL,
    RECORDS,
    Record,
    is_forge,
    label,
    names,
    parse,
    reads,
)
from tests.hosts.forge import network_files


@pytest.fixture(params=[found for found in RECORDS if is_forge(found)], ids=label)
def forge(request: pytest.FixtureRequest) -> Record:
    found: Record = request.param
    return found


def test_a_forge_model_has_what_is_read_of_it(forge: Record) -> None:
    read = reads(parse(FORGE), "self._model") | reads(parse(FORGE), "model")
    read |= reads(parse(FORGE_NETWORKS), "model")
    assert read >= {"forge_objects", "forge_objects_after_applying_lora", "current_lora_hash"}
    known = {name for facts in ("assigned", "functions") for name, found in forge[facts].items() if found}
    assert read - known <= OPTIONAL


def test_layers_that_cast_are_marked_where_we_look(forge: Record) -> None:
    where = {"parameters_manual_cast": "backend/operations.py"}
    where["ldm_patched_cast_weights"] = "ldm_patched/modules/ops.py"
    assert set(where) == set(merging._CASTS)
    assert {module.replace(".", "/") + ".py" for module, _ in merging._PLAIN} == set(where.values())
    known = [mark for mark, file in where.items() if file in forge["assigned"].get(mark, ())]
    assert len(known) == 1 or forge["host"]["name"] == "Forge Neo"  # recorded before these were read


def test_forge_s_patches_are_kept_where_and_how_we_read_them(forge: Record) -> None:
    by_file = "lora_patches" in names(forge, "ModelPatcher")
    assert by_file is (forge["host"]["name"] in BY_FILE)
    assert by_file or "patches" in names(forge, "ModelPatcher")
    orders = [found["values"] for found in forge["orders"]["patch"]]
    assert any(values[0] == "filename" for values in orders) is by_file
    (patch,) = [values for values in orders if values[0] == "strength_patch"]
    ours = {"strength_patch": "strength", "patches[k]": "value", "strength_model": "weight_factor"}
    fields = [*Patch.__dataclass_fields__][1:]
    assert [ours.get(name, name) for name in patch] == fields[: len(patch)]
    for found in forge["orders"]["lora"]:
        expected = ["lora[A_name]", "lora[B_name]", "alpha", "mid", "dora_scale", "reshape"]
        assert found["values"] == expected[: len(found["values"])]
    readers = [Path(found["file"]).stem for found in forge["functions"]["load_lora_state_dict"]]
    assert by_file or readers == ["networks"]


def test_forge_s_conditioning_modifiers_are_called_as_ours_is_made(forge: Record) -> None:
    (skip,) = [n for n in ast.walk(parse(FORGE)) if isinstance(n, ast.FunctionDef) and n.name == "skip"]
    (back,) = [node.value for node in ast.walk(skip) if isinstance(node, ast.Return)]
    parameters = [argument.arg for argument in skip.args.args]
    assert isinstance(back, ast.Tuple) and len(back.elts) == len(parameters)
    assert [ast.unparse(value) for value in back.elts] == parameters
    ours = {"timestep": "sigma", "scale": "cond_scale", "options": "model_options"}
    for found in forge["orders"]["modifier"]:
        theirs = [name.removesuffix("_patched").replace("timestep", "sigma") for name in found["values"]]
        assert [ours.get(name, name) for name in parameters] == theirs
    assert forge["orders"]["modifier"]


def test_forge_s_u_net_is_called_as_we_read_it(forge: Record) -> None:
    read = {
        ast.literal_eval(node.args[0])
        for node in ast.walk(parse(FORGE))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "kwargs.get"
    }
    assert read == {"context", "transformer_options"}
    assert forge["unet_calls"]
    assert all(read <= set(call["keywords"]) for call in forge["unet_calls"])
    files = [FORGE, "lib_pg/hosts/webui/conditioning.py"]
    ours = {node.value for file in files for node in ast.walk(parse(file)) if isinstance(node, ast.Constant)}
    assert ours >= {"cond_or_uncond", "conditioning_modifiers", "transformer_options", "crossattn"}
    unused = {text for text, found in forge["texts"].items() if not found}
    assert unused <= {"guidance"}  # of distilled models, which the older ones do not know


def test_forge_s_preparation_of_its_sampling_is_where_we_import_it_from(forge: Record) -> None:
    ((file, parameters),) = [tuple(found.values()) for found in forge["functions"]["sampling_prepare"]]
    imported = {
        node.module
        for node in ast.walk(parse(FORGE))
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "sampling_prepare"
    }
    assert file.removesuffix(".py").replace("/", ".") in imported
    assert parameters == "unet, x"


def test_forge_s_own_merging_is_called_as_it_is_made() -> None:
    (forge,) = [record for record in RECORDS if "LoraLoader" in record["classes"]]
    assert {"backup"} <= set(forge["classes"]["LoraLoader"]["attributes"])
    (merging,) = forge["functions"]["merge_lora_to_weight"]
    given = ["patches", "weight", "key", "computation_dtype"]
    assert merging == {"file": "backend/patcher/lora.py", "parameters": ", ".join(given)}
    assert list(inspect.signature(network_files.merge).parameters)[:3] == given[:3]
    names = {node.value for node in ast.walk(parse(FORGE_MERGING)) if isinstance(node, ast.Constant)}
    assert {"backend.patcher.lora", "merge_lora_to_weight", "lora_loader"} <= names
    assert forge["functions"]["load_model_gpu"] == [
        {"file": "backend/memory_management.py", "parameters": "model"}
    ]
    read = {node.value for node in ast.walk(parse(FORGE)) if isinstance(node, ast.Constant)}
    assert {"backend.memory_management", "load_model_gpu"} <= read
