"""What a WebUI's PNG Info reads of our pictures, by its grammar written down anew."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from lib_pg.cli.main import main
from lib_pg.cli.paths import BUNDLED_LORA, BUNDLED_PIPELINE

PROMPT = "a big sks star, at the beach\non the left"
NEGATIVE = "blurry: yes, Steps"
_VALUE = re.compile(r'\s*(?P<key>\w[\w /-]+):\s*(?P<value>"(?:[^"\\]|\\.)+"|[^,]*)(?:,|$)')


def png_info(path: Path) -> dict[str, str]:
    """Read a picture as a WebUI does: prompts line by line, the last line as pairs, sizes apart."""
    with Image.open(path) as image:
        lines = image.info["parameters"].strip().split("\n")
    pairs = [(found["key"], found["value"]) for found in _VALUE.finditer(lines[-1])]
    assert len(pairs) >= 3
    texts: dict[str, list[str]] = {"Prompt": [], "Negative prompt": []}
    into = "Prompt"
    for line in map(str.strip, lines[:-1]):
        if line.startswith("Negative prompt:"):
            into, line = "Negative prompt", line[len("Negative prompt:") :].strip()
        texts[into].append(line)
    read = {name: "\n".join(found) for name, found in texts.items()}
    for key, value in pairs:
        plain = json.loads(value) if value[:1] == value[-1:] == '"' else value
        size = re.match(r"^(\d+)x(\d+)$", plain)
        read |= {f"{key}-1": size[1], f"{key}-2": size[2]} if size else {key: plain}
    return read


@pytest.mark.parametrize("from_picture", [False, True])
def test_png_info_reads_all_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], from_picture: bool
) -> None:
    vae = BUNDLED_PIPELINE / "vae"
    start = tmp_path / "start.png"
    Image.new("RGB", (64, 72), "red").save(start)
    options = ["--prompt", PROMPT, "--negative", NEGATIVE, "--lora", f"{BUNDLED_LORA}:0.9:pg=0.5"]
    options += ["--steps", "4", "--seed", "9", "--sampler", "DPM++ 2M Karras", "--vae", str(vae)]
    options += ["--networks", "sks_star, other", "--device", "cpu", "--out", str(tmp_path / "out")]
    options += ["--init-image", str(start), "--denoise", "0.5"] if from_picture else ["--height", "72"]
    assert main(["generate", *options]) == 0
    read = png_info(Path(capsys.readouterr().out.strip()))
    expected = {
        "Prompt": f"{PROMPT} <lora:sks_star:0.9:pg=0.5>",
        "Negative prompt": NEGATIVE,
        "Steps": "4",
        "Sampler": "DPM++ 2M",
        "Schedule type": "Karras",
        "CFG scale": "7.5",
        "Seed": "9",
        "Size-1": "64",
        "Size-2": "72",
        "Model": "pipeline",
        "VAE": "vae",
        "PG mode": "PG",
        "PG networks": "sks_star, other",
    }
    assert expected.items() <= read.items()
    assert read.get("Denoising strength") == ("0.5" if from_picture else None)
    assert re.fullmatch("[0-9a-f]{10}", read["Model hash"]) and re.fullmatch("[0-9a-f]{10}", read["VAE hash"])
    assert read["Lora hashes"].startswith("sks_star: ")
