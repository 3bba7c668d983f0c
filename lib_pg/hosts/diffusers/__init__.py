"""Hugging Face diffusers, for the standalone program and for Python programs of others."""

from lib_pg.hosts.base_checkpoint import BaseCheckpoint
from lib_pg.hosts.diffusers.models import load_base_checkpoint, models_of
from lib_pg.hosts.diffusers.pipeline import DiffusersHost, guided, installed, load_network
from lib_pg.hosts.diffusers.unet_hook import EncodedPrompt

__all__ = [
    "BaseCheckpoint",
    "DiffusersHost",
    "EncodedPrompt",
    "guided",
    "installed",
    "load_base_checkpoint",
    "load_network",
    "models_of",
]
