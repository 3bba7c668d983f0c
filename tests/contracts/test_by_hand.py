"""What could be read of hosts in single files alone: our adapter and the stand-in hold to it."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest

from lib_pg.hosts.forge.patches import Patch
from tests.contracts.records import FORGE, FORGE_MERGING, FORGE_NETWORKS, FORGE_PATCHES, ROOT, own_of, parse
from tests.hosts.forge.network_files import MODULES, AtCalls, Kept
from tests.hosts.forge.stand_in import Engine


@pytest.fixture
def neo() -> Any:
    return json.loads((ROOT / "tests/contracts/by_hand/forge-neo-2026-08.json").read_text("utf-8"))


def constants(file: str) -> set[Any]:
    return {node.value for node in ast.walk(parse(file)) if isinstance(node, ast.Constant)}


def test_patches_are_where_the_host_keeps_them(neo: Any) -> None:
    patcher = neo["classes"]["ModelPatcher"]["attributes"]
    assert {"patches", "backup", "model", "model_options"} <= set(patcher)
    assert "lora_patches" not in patcher
    assert {"patches", "lora_patches"} <= constants(FORGE_PATCHES)
    assert "lora_patches" not in vars(Engine("Forge Neo").unet)
    ours = {"strength_patch": "strength", "patches[k]": "value", "strength_model": "weight_factor"}
    fields = [*Patch.__dataclass_fields__][1:]
    order = [ours.get(name, name) for name in neo["orders"]["patch"]]
    assert order == fields[: len(order)]
    assert neo["orders"]["backup"] == [*Kept._fields]
    assert "weight" in constants(FORGE_MERGING)


def test_layers_without_room_are_known_by_what_the_host_puts_on_them(neo: Any) -> None:
    call = neo["classes"]["LowVramPatch"]
    assert own_of(AtCalls(Engine("Forge Neo").forge_objects.unet, "x")) <= {*call["attributes"]}
    assert "patches" in constants(FORGE_MERGING)
    assert neo["layers that are offloaded"] == [f"{name}_function" for name in ("weight", "bias")]
    assert "_function" in constants(FORGE_MERGING)


def test_the_host_is_called_where_its_functions_are(neo: Any) -> None:
    sampling, memory, merging, function = MODULES["Forge Neo"]
    assert f"{merging}.{function}" in neo["merging"]
    assert merging in constants(FORGE_MERGING)
    prepare = neo["functions"]["sampling_prepare"]["file"]
    assert prepare.removesuffix(".py").replace("/", ".") == sampling
    managers = {neo["functions"]["load_model_gpu"]["file"].removesuffix(".py").replace("/", "."), memory}
    assert managers <= constants(FORGE)
    assert neo["bypasses"] == {
        "Nunchaku": "diffusion_model.loras",
        "Int8": "transformer_options.dynamic_loras",
    }
    read = {*neo["bypasses"], *(part for path in neo["bypasses"].values() for part in path.split("."))}
    assert read <= constants(FORGE_NETWORKS)
