"""Network files: safetensors in, deltas by layer out."""

from lib_pg.formats.errors import NetworkError
from lib_pg.formats.match import Match, match
from lib_pg.formats.read import NetworkFile, read_network

__all__ = ["Match", "NetworkError", "NetworkFile", "match", "read_network"]
