"""Where the bundled model is."""

from __future__ import annotations

from pathlib import Path

BUNDLED = Path(__file__).parent / "bundled"
BUNDLED_PIPELINE = BUNDLED / "pipeline"
BUNDLED_LORA = BUNDLED / "sks_star.safetensors"
