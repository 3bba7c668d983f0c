"""CLIP and DINO by transformers: pictures and texts to unit vectors, each backbone with its revision."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from lib_pg.cli.devices import is_out_of_memory
from lib_pg.cli.errors import UsageError

_BLOCK = 1 << 20
# What decides a backbone's numbers in a folder: weights, configuration, tokenizer.
_HASHED = (".safetensors", ".json", ".txt")
_DIGITS = 16


@dataclass(frozen=True, eq=False)
class Backbone:
    """A model that turns pictures, and CLIP's also texts, into vectors of length 1.

    Attributes:
        name: as the user gave it, without the revision; of a folder its name alone.
        revision: commit of the hub, or the hash of the folder's files.
        kind: clip, vit or dinov2.
    """

    name: str
    revision: str
    kind: str
    model: Any
    processor: Any
    tokenizer: Any = None

    @property
    def told(self) -> str:
        """Name, class, revision and preprocessing, as they stand beside every number."""
        return f"{self.name} ({type(self.model).__name__}, {self.revision}, {type(self.processor).__name__})"

    @torch.no_grad()
    def pictures(self, images: Sequence[Image.Image], batch: int) -> Tensor:
        """Return the vectors of RGB pictures, preprocessed the backbone's own way: (pictures, width)."""
        found = []
        for first in range(0, len(images), batch):
            given = self.processor(images=list(images[first : first + batch]), return_tensors="pt")
            pixels = given["pixel_values"].to(self.model.device, self.model.dtype)
            if self.kind == "clip":
                vectors = self.model.visual_projection(self.model.vision_model(pixel_values=pixels)[1])
            else:
                vectors = self.model(pixel_values=pixels).last_hidden_state[:, 0]
            found.append(_unit(vectors))
        return torch.cat(found)

    @torch.no_grad()
    def texts(self, texts: Sequence[str], batch: int) -> Tensor:
        """Return the vectors of texts, cut where CLIP reads no further: (texts, width)."""
        found = []
        length = self.model.config.text_config.max_position_embeddings
        for first in range(0, len(texts), batch):
            given = self.tokenizer(
                list(texts[first : first + batch]), padding=True, truncation=True, max_length=length,
                return_tensors="pt",
            ).to(self.model.device)  # fmt: skip
            read = self.model.text_model(input_ids=given["input_ids"], attention_mask=given["attention_mask"])
            found.append(_unit(self.model.text_projection(read[1])))
        return torch.cat(found)


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors.float(), dim=1).cpu()


def load_backbone(given: str, kinds: Sequence[str], device: str, option: str) -> Backbone:
    """Load a backbone from a folder, or from the hub by NAME or NAME@REVISION.

    Args:
        given: the folder, or the name.
        kinds: which of clip, vit and dinov2 it may be.
        device: it computes there in float32.
        option: what the command line calls it.

    Raises:
        UsageError: it cannot be loaded, has no safetensors, or is of another kind.
    """
    import transformers

    is_folder = os.path.isdir(given)
    name, _, wanted = (given, "", "") if is_folder else given.partition("@")
    classes: dict[str, Any] = {
        "clip": transformers.CLIPModel, "vit": transformers.ViTModel, "dinov2": transformers.Dinov2Model,
    }  # fmt: skip
    source: dict[str, Any] = {"local_files_only": True} if is_folder else {"revision": wanted or "main"}
    source["trust_remote_code"] = False
    try:
        config = transformers.AutoConfig.from_pretrained(name, **source)
        kind = str(config.model_type)
        if kind not in kinds:
            raise UsageError(
                f"{option} {given[:200]!r} is a {kind!r} model; it must be one of {', '.join(kinds)}"
            )
        # DINO's own vector is the class token; the pooler that transformers would add is not trained.
        more = {"add_pooling_layer": False} if kind == "vit" else {}
        del source["trust_remote_code"]
        model = classes[kind].from_pretrained(
            name, use_safetensors=True, dtype=torch.float32, **more, **source
        )
        source["trust_remote_code"] = False
        # The same preprocessing on every machine, whatever is installed beside.
        load_processor: Any = transformers.AutoImageProcessor.from_pretrained
        processor = load_processor(name, backend="pil", **source)
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **source) if kind == "clip" else None
        model.eval().to(device)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise UsageError(
            f"{option} {given[:200]!r} cannot be loaded: {reason}; give a folder with safetensors weights, "
            "or a name on the hub"
        ) from error
    called = Path(os.path.abspath(name)).name if is_folder else name
    return Backbone(called, _revision(name, config, is_folder), kind, model, processor, tokenizer)


def _revision(name: str, config: Any, is_folder: bool) -> str:
    if not is_folder:
        return str(getattr(config, "_commit_hash", None) or "revision not known")
    digest = hashlib.sha256()
    for file in sorted(each for each in Path(name).iterdir() if each.suffix in _HASHED):
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    return f"sha256 {digest.hexdigest()[:_DIGITS]}"
