"""Hugging Face diffusers, for the standalone program and for Python programs of others."""

from lib_pg.hosts.diffusers.base_checkpoint import BaseCheckpoint, load_base_checkpoint
from lib_pg.hosts.diffusers.models import models_of
from lib_pg.hosts.diffusers.pipeline import DiffusersHost, EncodedPrompt, guided, installed, load_network

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
