"""Image to image, inpainting and another VAE, as a user runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import save_file

from lib_pg.cli.devices import chosen_device
from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.source import Source, load_source, pipeline_for
from lib_pg.cli.main import main
from lib_pg.cli.picture_files import read_parameters
from lib_pg.cli.png_text import parse
from tests.pipelines import sd_pipeline

Run = Callable[..., Path]
FAST = ["--steps", "4", "--seed", "7", "--prompt", "a sks dog", "--sampler", "Euler"]


@pytest.fixture
def drawing(tmp_path: Path) -> Path:
    """A picture of another size than the model's own, with a hole that is seen through."""
    path = tmp_path / "in.png"
    pixels = np.random.default_rng(0).integers(0, 256, (56, 72, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[:4, :4] = 0
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """White on the right half."""
    path = tmp_path / "mask.png"
    pixels = np.zeros((56, 72), np.uint8)
    pixels[:, 36:] = 255
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def run(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def generate(*arguments: object, model: str = "sd") -> Path:
        files = ["--checkpoint", str(models / model), "--lora", str(models / f"{model}_dog.safetensors")]
        assert main(["generate", *files, "--out", str(tmp_path / "out"), *map(str, arguments)]) == 0
        return Path(capsys.readouterr().out.strip())

    return generate


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("model", ["sd", "sdxl"])
@pytest.mark.parametrize("masked", [False, True])
def test_omega_1_is_cfg_to_the_bit(run: Run, drawing: Path, mask: Path, model: str, masked: bool) -> None:
    more = [*FAST, "--init-image", drawing, *(["--mask", mask] if masked else [])]
    plain = run(*more, "--mode", "CFG", model=model)
    same = run(*more, "--weak-ratio", "1", model=model)
    other = run(*more, "--weak-ratio", "0.2", model=model)
    assert Image.open(plain).size == (72, 56)
    assert (pixels(plain) == pixels(same)).all()
    assert (pixels(plain) != pixels(other)).any()
    assert parse(read_parameters(other)).pairs["PG weak ratio"] == "0.2"


@pytest.mark.parametrize("model", ["sd", "sdxl"])
def test_the_mask_keeps_the_rest_to_the_pixel(run: Run, drawing: Path, mask: Path, model: str) -> None:
    made = pixels(run(*FAST, "--init-image", drawing, "--mask", mask, "--denoise", "1", model=model))
    given = pixels(drawing).copy()
    given[:4, :4] = 255  # what shines through is white
    assert (made[:, :36] == given[:, :36]).all()
    assert (made[:, 36:] != given[:, 36:]).any(axis=(0, 2)).all()


def test_less_denoising_keeps_more(run: Run, drawing: Path) -> None:
    few, all_ = (
        pixels(run(*FAST, "--init-image", drawing, "--denoise", share)).astype(int) for share in ("0.25", "1")
    )
    other = pixels(run(*FAST, "--init-image", drawing, "--denoise", "0.25", "--seed", "8")).astype(int)
    assert abs(few - other).mean() < abs(few - all_).mean()


def test_a_png_repeats_its_picture_with_its_files(
    run: Run, drawing: Path, mask: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--init-image", str(drawing), "--mask", str(mask)]
    path = run(*FAST, *given, "--denoise", "0.5")
    pairs = parse(read_parameters(path)).pairs
    assert pairs["Denoising strength"] == "0.5"
    assert {"Init image hash", "Mask hash"} <= pairs.keys()
    again = run("--from-png", path, *given)
    assert (pixels(path) == pixels(again)).all()
    assert read_parameters(path) == read_parameters(again)
    files = ["--checkpoint", str(models / "sd"), "--lora", str(models / "sd_dog.safetensors")]
    assert main(["generate", *files, "--from-png", str(path)]) == 2
    assert "give --init-image PICTURE" in capsys.readouterr().err
    Image.new("RGB", (72, 56)).save(drawing)
    assert main(["generate", *files, "--from-png", str(path), *given, "--out", str(path.parent)]) == 0
    assert "made with another file: Init image hash" in capsys.readouterr().err


def test_every_picture_of_a_batch_starts_from_it(run: Run, drawing: Path, models: Path) -> None:
    alone = run(*FAST, "--init-image", drawing, "--seed", "8")
    files = ["--checkpoint", str(models / "sd"), "--lora", str(models / "sd_dog.safetensors")]
    out = alone.parent / "batch"
    arguments = [*FAST, "--init-image", str(drawing), "--batch", "2", "--out", str(out)]
    assert main(["generate", *files, *arguments]) == 0
    second = sorted(out.iterdir())[1]
    assert abs(pixels(second).astype(int) - pixels(alone).astype(int)).max() <= 1


def test_of_a_mask_what_is_transparent_is_kept_and_of_a_picture_it_is_white(tmp_path: Path) -> None:
    """Whichever colour is hidden there."""
    strokes = Image.new("RGBA", (4, 1), (255, 255, 255, 0))
    strokes.putpixel((0, 0), (255, 255, 255, 255))
    strokes.save(tmp_path / "strokes.png")
    source = load_source(tmp_path / "strokes.png", tmp_path / "strokes.png")
    assert source is not None and source.mask is not None
    assert list(source.mask.tobytes()) == [255, 0, 0, 0]
    assert set(source.image.tobytes()) == {255}


def test_grey_in_16_bits_is_grey(tmp_path: Path) -> None:
    grey = np.array([[0, 257 * 100, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    source = load_source(tmp_path / "a.png", tmp_path / "a.png")
    assert source is not None and source.mask is not None
    assert np.asarray(source.mask).tolist() == [[0, 100, 255]]
    assert np.asarray(source.image).tolist() == [[[0] * 3, [100] * 3, [255] * 3]]


@pytest.mark.parametrize(("channels", "said"), [(8, "editing"), (5, "depth"), (9, "give --init-image")])
def test_a_model_that_reads_more_than_noise_is_named(channels: int, said: str) -> None:
    pipeline = sd_pipeline()
    pipeline.unet.register_to_config(in_channels=channels)
    sources = [None, Source(Image.new("RGB", (8, 8)), None, {})]
    if channels != 9:
        sources.append(Source(Image.new("RGB", (8, 8)), Image.new("L", (8, 8)), {}))
    for source in sources:
        with pytest.raises(UsageError, match=said):
            pipeline_for(pipeline, source)


WRONG = {
    "a mask alone": (["--mask", "{mask}"], "give the picture with --init-image"),
    "denoise alone": (["--denoise", "0.5"], "give it with --init-image"),
    "no picture": (["--init-image", "{models}/sd_dog.safetensors"], "cannot be read as a PNG"),
    "no mask": (["--init-image", "{in}", "--mask", "nowhere.png"], "cannot be read"),
    "denoise": (["--init-image", "{in}", "--denoise", "1.5"], "between 0.0 and 1.0"),
    "no step left": (["--init-image", "{in}", "--denoise", "0.2"], "leaves none to make"),
    "a VAE that is none": (["--vae", "{models}/sd_dog.safetensors"], "holds no decoder"),
    "a VAE that is a pickle": (["--vae", "{in}"], "can run code"),
    "no VAE": (["--vae", "{models}"], "could not be loaded"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_done_is_one_line(
    case: str, models: Path, drawing: Path, mask: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, said = WRONG[case]
    names = {"{mask}": str(mask), "{in}": str(drawing), "{models}": str(models)}
    for name, value in names.items():
        arguments = [each.replace(name, value) for each in arguments]
    files = ["--checkpoint", str(models / "sd"), "--out", str(tmp_path / "out")]
    assert main(["generate", *files, *FAST, *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err and err.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["folder", "file", "half"])
def test_another_vae_draws_what_it_would_within_the_model(
    run: Run, models: Path, tmp_path: Path, form: str
) -> None:
    torch.manual_seed(3)
    shape = {"block_out_channels": (8, 8), "norm_num_groups": 4, "latent_channels": 4}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    own, other = (AutoencoderKL(**shape, **blocks).eval() for _ in range(2))
    expected = sd_pipeline()
    for name, vae in (("own", own), ("expected", other)):
        expected.register_modules(vae=vae)
        expected.save_pretrained(tmp_path / name)
    path = tmp_path / "vae"
    if form == "folder":
        other.save_pretrained(path)
    else:
        path = path.with_suffix(".safetensors")
        dtype = torch.float32 if form == "file" else torch.float16
        save_file({name: value.to(dtype) for name, value in other.state_dict().items()}, path)
    changed = run("--checkpoint", tmp_path / "own", *FAST, "--vae", path)
    plain = run("--checkpoint", tmp_path / "own", *FAST)
    within = run("--checkpoint", tmp_path / "expected", *FAST)
    near = abs(pixels(changed).astype(int) - pixels(within).astype(int)).max()
    assert near <= (1 if form == "half" else 0)
    assert (pixels(changed) != pixels(plain)).any()
    assert parse(read_parameters(changed)).pairs["VAE"] == "vae"
    again = run("--from-png", changed, "--checkpoint", tmp_path / "own", "--vae", path)
    assert read_parameters(again) == read_parameters(changed)


@pytest.mark.parametrize(
    ("cuda", "mps", "device"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_the_device_is_chosen_by_what_is_there(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert chosen_device("auto") == device
    assert chosen_device("cuda:1") == "cuda:1"


def test_the_chosen_device_is_said(run: Run, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--checkpoint", str(models / "sd"), "--out", str(models / "device")]
    assert main(["generate", *files, *FAST]) == 0
    assert f"device: {chosen_device('auto')}" in capsys.readouterr().err
