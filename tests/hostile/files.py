"""Network files and checkpoints from strangers: refused in one sentence, or used and put away again.

Each run is one seed: `network(makers, folder, seed)` repeats it.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import save

from lib_pg.formats import NetworkError, read_network
from lib_pg.formats.outline import family_of_checkpoint, outline_network
from lib_pg.hosts.diffusers import guided, installed, load_base_checkpoint, load_network
from tests.formats.hostile_files import tensors_of
from tests.hostile.makers import Makers, latents
from tests.hostile.mutations import mutated
from tests.pipelines import hooks_of, same_bits, settings, weights_of

MESSAGE_LENGTH_MAX = 1000
REFUSED, LEFT_ALONE, GUIDED = "refused", "read, nothing to weaken", "guided"


def network(makers: Makers, folder: Path, seed: int) -> str:
    """Read and use a network file of a seed; return what became of it."""
    random = Random(seed)
    case, other = random.choice(makers.cases), random.choice(makers.cases)
    path = folder / "cat.safetensors"
    path.write_bytes(mutated(makers.network(case), random, makers.network(other)))
    quietly(lambda: outline_network(path))
    if (file := quietly(lambda: read_network(path))) is None:
        return REFUSED
    tensors = [tensor for delta in file.layers.values() for tensor in tensors_of(delta)]
    assert tensors and all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
    warned: list[str] = []
    loaded = quietly(lambda: load_network(makers.pipeline, path, warn=warned.append))
    if loaded is None:
        return REFUSED
    mode = random.choice(("PG", "AG"))
    with installed([loaded]):
        plain = None if loaded.parts else latents(makers.pipeline)
        with guided(makers.pipeline, [loaded], settings(mode=mode, weak_ratio=0.4), warned.append) as run:
            made = latents(makers.pipeline)
        if plain is not None:
            assert not run.ran and torch.equal(made, plain)
    assert all(each.isprintable() and len(each) < MESSAGE_LENGTH_MAX for each in warned), warned
    return GUIDED if run.ran else LEFT_ALONE


def checkpoint(makers: Makers, folder: Path, seed: int) -> str:
    """Take a checkpoint file of a seed for the base of the loaded one; return what became of it."""
    random = Random(seed)
    good = makers.checkpoint()
    path = folder / "base.safetensors"
    other = makers.network(random.choice(makers.cases))
    # Most changes make a checkpoint incomplete: some are good until they are in use.
    path.write_bytes(save(good.tensors) if random.random() < 0.3 else mutated(good, random, other))
    quietly(lambda: family_of_checkpoint(path))
    warned: list[str] = []
    rank = random.choice((0, 0, 4))
    base = quietly(lambda: load_base_checkpoint(makers.pipeline, path, "loaded", warned.append, rank))
    if base is None:
        return REFUSED
    assert all(each.isprintable() and len(each) < MESSAGE_LENGTH_MAX for each in warned), warned
    if random.random() < 0.5:  # the file is replaced while it is in use
        path.write_bytes(mutated(good, random, good))
    try:
        with guided(makers.pipeline, [], settings(weak_ratio=0.4), warned.append, base) as run:
            latents(makers.pipeline)
    except NetworkError as error:
        check_message(error)
        return REFUSED
    finally:
        base.free()
    return GUIDED if run.ran else LEFT_ALONE


class Untouched:
    """Sees that a pipeline is as it was, to the bit and without a hook."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._weights = weights_of(pipeline)
        self._hooks = hooks_of(pipeline)

    def check(self) -> None:
        assert hooks_of(self._pipeline) == self._hooks
        assert same_bits(weights_of(self._pipeline), self._weights)


def quietly(read: Any) -> Any:
    """Return what is read; None where it is refused in one line."""
    try:
        return read()
    except NetworkError as error:
        check_message(error)
        return None


def check_message(error: NetworkError) -> None:
    message = str(error)
    assert message.isprintable() and "; " in message and len(message) < MESSAGE_LENGTH_MAX, message
