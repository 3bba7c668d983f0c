"""Accelerators are told from subjects that are called like one: by whole names, and by files' headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_pg.accelerators import Sampling, judge

# As published, or as users' prompts and folders call them.
ACCELERATORS = [
    "lcm-lora-sdv1-5", "lcm-lora-sdxl", "lcm-lora-ssd-1b", "LCM_LoRA_Weights_SD15", "sdxl_lcm_lora",
    "LCM_15", "LCMmodels", "sdxl_LCM_lora_rank1", "AnimateLCM_sd15_t2v_lora", "PAseer-SDXL-LCM+Turbo",
    "LCMTurbo", "LCM", "Hyper-SD15-8steps-lora", "Hyper-SD15-8steps-CFG-lora", "Hyper-SDXL-1step-lora",
    "Hyper-SDXL-12steps-CFG-lora_rank1", "Hyper-FLUX.1-dev-8steps-lora", "Hyper-SD3-4steps-CFG-lora",
    "Hyper-SDXL-8steps-UNIT", "HyperSD15_8step", "hypersd-sd1-5-1-step-lora", "hypersd_sdxl_2step",
    "HyperSD_1step_Lora", "sdxl_hyper_sd_4step_lora", "hyper_8_step", "sdxl_lightning_4step_lora",
    "SDXL_Lightning_8steps", "LightningXL", "Qwen-Image-Lightning-8steps-V1.0", "dmd2_sdxl_4step_lora",
    "dmd2_sdxl_4step_lora_fp16", "DmD2", "LongCat-Avatar-15_dmd_distill_lora_rank128_bf16",
    "sd_xl_turbo_lora_v1-64dim", "sd_xl_turbo_lora_rank16", "SDXL-Turbo-lora", "SDXLTurbo_lora",
    "turbolora", "turbo-accel-v2", "TurboMix", "Flux_Turbo_8steps", "FLUX.1-Turbo-Alpha",
    "flux1-dev-turbo-alpha", "Wan22_TI2V_5B_Turbo_lora_rank_64_fp16", "sdxl_TCD_lora_rank1", "TCD",
    "sdxl_tdd_lora_weights", "pcm_sdxl_normalcfg_16step_converted", "pcm_sd15_smallcfg_8step",
    "pcm_sd15_lcmlike_lora_converted", "sdxl-flash-lora", "flash_sdxl_lora", "perflow-sd15-lora",
    "Wan21_T2V_14B_lightx2v_cfg_step_distill_lora_rank32",
    "lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16",
]  # fmt: skip

SUBJECTS = [
    "hyperrealistic_lightning_bolt", "turbo_car", "turbo_granny", "hyper_detail", "pikachu_lightning_tail",
    "hyper_breasts_1.8k-lr1e-4-av3-LoRA_epoc12-v5", "lightning_vfx", "lightning_element",
    "LahMysteriousSDXL_Lightning", "flash_lora-000008", "flashlightphoto_v1.5a", "128dimTurbomaleV7_128",
    "LightningvfxCreateMore_v1", "aidmaHyperrealism", "hyperdetailer_v095", "style_hyperrealism",
    "hyperrealistic", "turbocharged", "overlightning", "pcmaster", "my_dog", "lighting-v2-000012",
    "lightAndShadow_v10", "sd_xl_offset_example-lora_1.0", "flux_realism_lora", "flux_detailer",
    "ip-adapter-faceid-plusv2_sdxl_lora", "flux1-canny-dev-lora", "pytorch_lora_weights", "add-detail-xl",
    "DetailTweakerXL", "gzy_detailer_xl", "SDXLHighDetail_v5", "SDXLrender_v2.0", "TeethXL",
    "XL_fix_hands", "Hand_v3_SD1.5", "EnvyBetterHiresFixXL01", "detail_slider_v4", "FilmVelvia3",
    "blacksclera-v1.5-lora-naivae-32dim-6ep", "AndroFlux-v5-1500", "ffc_selfie_PDXL-000002",
    "bearhug_SD15Pony", "SDXL-JojosoStyle-Lora-v2-r16", "npcportrait_v2",
]  # fmt: skip


@pytest.mark.parametrize("name", ACCELERATORS)
def test_accelerators_are_known_by_name(name: str) -> None:
    assert judge(name, {}) == "yes"


@pytest.mark.parametrize("name", SUBJECTS)
def test_subjects_are_not_taken_for_one(name: str) -> None:
    assert judge(name, {}) != "yes"


@pytest.mark.parametrize(
    "name", ["turbo_car", "lightning_vfx", "hyper_detail", "LahMysteriousSDXL_Lightning"]
)
def test_a_method_s_word_beside_others_is_a_doubt(name: str) -> None:
    assert judge(name, {}) == "maybe"


@pytest.mark.parametrize(
    "name", ["hyperrealistic", "my_dog", "mychar_step00002000", "dog_1500steps", "光影", ""]
)
def test_other_names_are_none(name: str) -> None:
    assert judge(name, {}) == "no"


@pytest.mark.parametrize(
    ("name", "metadata", "verdict"),
    [
        ("fast_one", {"modelspec.title": "LCM LoRA"}, "yes"),
        ("mine", {"ss_output_name": "sdxl_lightning"}, "yes"),
        ("mine", {"modelspec.description": "Sample with 4-8 steps."}, "maybe"),
        ("mine", {"modelspec.usage_hint": "needs the LCM sampler"}, "maybe"),
        ("mine", {"modelspec.description": "A turbo car in a flash of lightning."}, "no"),
        ("mine", {"ss_sd_model_name": "dreamshaperXL_lightning_4step"}, "no"),
        ("turbo_car", {"ss_tag_frequency": '{"10_car": {"red car": 3}}'}, "no"),
        ("lightning_xl", {"ss_tag_frequency": '{"10_zeus": {"lightning": 3}}'}, "maybe"),
        ("lightning_xl", {"ss_tag_frequency": "{}"}, "yes"),
    ],
)
def test_the_header_of_the_file_counts(name: str, metadata: dict[str, str], verdict: str) -> None:
    assert judge(name, metadata) == verdict


@given(st.text(alphabet="lcmturboSDXL0189_-.é光 ", max_size=500))
def test_any_name_is_read(name: str) -> None:
    assert judge(name, {"modelspec.title": name, "modelspec.description": name}) in ("yes", "maybe", "no")


@pytest.mark.parametrize(
    ("steps", "scale", "needed", "few"),
    [
        (4, 1.5, True, True),
        (12, 7, True, True),
        (19, 7, True, False),
        (20, 3, False, False),
        (30, 2, True, False),
    ],
)
def test_steps_and_scale_say_whether_accelerators_are_needed(
    steps: int, scale: float, needed: bool, few: bool
) -> None:
    sampling = Sampling(steps, scale)
    assert (sampling.needs_accelerators, sampling.has_few_steps) == (needed, few)
