"""The picture that a new one starts from, and the mask of what is drawn anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.record import INIT_HASH, MASK_HASH
from lib_pg.cli.hashes import fingerprint
from lib_pg.cli.picture_files import DAMAGED, FORMATS
from lib_pg.cli.pipelines import CHANNELS, CHANNELS_INPAINTING

_LONGEST = 8192


@dataclass(frozen=True)
class Source:
    """What image to image starts from.

    Attributes:
        image: RGB.
        mask: L, of any size: white is drawn anew, black is kept; None where all is drawn anew.
        hashes: of the files, by the keys that a picture's parameters have them under.
    """

    image: Image.Image
    mask: Image.Image | None
    hashes: dict[str, str]

    def for_size(self, width: int, height: int) -> Source:
        """Return the same, stretched to a size."""
        size = (width, height)
        mask = self.mask.resize(size, Image.Resampling.LANCZOS) if self.mask else None
        return Source(self.image.resize(size, Image.Resampling.LANCZOS), mask, self.hashes)

    def arguments(self, width: int, height: int) -> dict[str, Any]:
        """Return the pipeline's arguments beside those of text to image, once the size is right."""
        if self.mask is None:
            return {"image": self.image}
        return {"image": self.image, "mask_image": self.mask, "width": width, "height": height}

    def kept(self, made: Image.Image) -> Image.Image:
        """Return a picture that was made from it, with what the mask keeps as it was, to the pixel."""
        return made if self.mask is None else Image.composite(made, self.image, self.mask)


def load_source(image: Path | None, mask: Path | None) -> Source | None:
    """Read the pictures of `--init-image` and `--mask`.

    Raises:
        UsageError: they cannot be read, are too large, or there is a mask alone.
    """
    if image is None:
        if mask is not None:
            raise UsageError(
                "--mask says what of a picture is drawn anew; give the picture with --init-image"
            )
        return None
    hashes = {INIT_HASH: _hash(image, "--init-image")}
    if mask is not None:
        hashes[MASK_HASH] = _hash(mask, "--mask")
    return Source(
        _on(_opened(image), "white"), _on(_opened(mask), "black").convert("L") if mask else None, hashes
    )


def pipeline_for(pipeline: Any, source: Source | None) -> Any:
    """Return the pipeline that draws from a source, on the very models of one that draws from text.

    Raises:
        UsageError: the checkpoint is made for inpainting, and there is no mask; or for something else.
    """
    import diffusers

    channels = pipeline.unet.config.in_channels
    if channels not in (CHANNELS, CHANNELS_INPAINTING):
        raise UsageError(
            f"the checkpoint's U-Net reads {channels} channels, as those for editing, depth or upscaling do, "
            "which are not drawn with here; give another checkpoint"
        )
    if channels != CHANNELS and (source is None or source.mask is None):
        raise UsageError(
            f"the checkpoint's U-Net reads {channels} channels, as those for inpainting do; give "
            "--init-image and --mask, or another checkpoint"
        )
    if source is None:
        return pipeline
    xl = "XL" if hasattr(pipeline, "text_encoder_2") else ""
    task = "Img2Img" if source.mask is None else "Inpaint"
    settings = (
        {
            "add_watermarker": False,
            "force_zeros_for_empty_prompt": pipeline.config.force_zeros_for_empty_prompt,
        }
        if xl
        else {"requires_safety_checker": False}
    )
    return getattr(diffusers, f"StableDiffusion{xl}{task}Pipeline")(**pipeline.components, **settings)


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=FORMATS) as image:
            if max(image.size) > _LONGEST:
                raise UsageError(
                    f"{str(path)!r} has {image.width} x {image.height} pixels; at most {_LONGEST} a side "
                    "are read"
                )
            return _in_8_bits(ImageOps.exif_transpose(image))
    except DAMAGED as error:
        raise UsageError(f"{str(path)!r} cannot be read as a PNG, JPEG or WebP: {error}") from error


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Return a picture apart from its file; of grey in 16 bits Pillow would make all but black white."""
    if not image.mode.startswith("I"):
        return image.copy()
    return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))


def _on(image: Image.Image, below: str) -> Image.Image:
    """Return a picture in RGB; what shines through has the colour `below`."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, below), image).convert("RGB")


def _hash(path: Path, option: str) -> str:
    try:
        return fingerprint(path)
    except OSError as error:
        raise UsageError(f"{option} {str(path)!r} cannot be read: {error.strerror or error}") from error
