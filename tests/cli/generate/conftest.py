"""Small random pipelines saved to disk, with networks for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffusers.utils import logging as diffusers_logging

from tests.networks import random_kohya_file
from tests.pipelines import sd_pipeline, sdxl_pipeline


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    diffusers_logging.set_verbosity_error()  # as the program does before it imports diffusers
    folder = tmp_path_factory.mktemp("models")
    for name, pipeline in (("sd", sd_pipeline()), ("sdxl", sdxl_pipeline())):
        pipeline.save_pretrained(folder / name)
        encoders = {"te1": pipeline.text_encoder, "te2": getattr(pipeline, "text_encoder_2", None)}
        for lora, seed in (("dog", 0), ("style", 1)):
            random_kohya_file(
                folder / f"{name}_{lora}.safetensors", pipeline.unet, **encoders, seed=seed, alpha=1.0
            )
    return folder
