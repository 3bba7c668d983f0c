"""Hugging Face diffusers, for the standalone program and for Python programs of others."""

from lib_pg.hosts.diffusers.pipeline import (
    DiffusersHost,
    EncodedPrompt,
    guided,
    installed,
    load_network,
    models_of,
)

__all__ = ["DiffusersHost", "EncodedPrompt", "guided", "installed", "load_network", "models_of"]
