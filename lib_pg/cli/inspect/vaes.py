"""A VAE: it has no subject in it, so it is never weakened."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from lib_pg.cli.inspect.facts import About, mebibytes
from lib_pg.formats.container import open_container

_BOTH_ENDS = ("encoder.conv_in.weight", "decoder.conv_out.weight")


def is_vae(names: Collection[str]) -> bool:
    """Return whether these are the tensors of a VAE alone, by the original names or those of diffusers."""
    return all(name in names for name in _BOTH_ENDS)


def about_vae(path: Path) -> About:
    """Return what is known of a VAE.

    Raises:
        NetworkError: it is damaged or beyond a limit.
    """
    with open_container(path, path.stem) as container:
        size = sum(header.nbytes for header in container.tensors.values())
        facts = {
            "what": "VAE",
            "name": path.stem,
            "family": "unknown",
            "parts": {"VAE": {"tensors": len(container.tensors), "bytes": size}},
        }
    lines = [
        ("VAE", mebibytes(size)),
        ("weakened", "nothing: it draws latents as pixels and knows no subject; use it with --vae PATH"),
    ]
    return About(path.stem, "a VAE", facts, lines)
