"""Which network files a picture is made with: the tags of its prompt and `--lora` brought together.

A network is its file; its name is what the user calls it. Light to import.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lib_pg.cli.errors import UsageError
from lib_pg.prompt import Own, PromptNetwork

STRENGTHS = (-100.0, 100.0)
_USES_MAX = 100
_NOT_IN_TAGS = "<>:,="


@dataclass(frozen=True)
class LoraFile:
    """A network as `--lora` gives it; what it leaves out is None.

    Attributes:
        strength: the multiplier, that for the U-Net where `te_strength` is given.
        te_strength: the multiplier for the text encoders; None for the same.
    """

    path: Path
    strength: float | None = None
    te_strength: float | None = None
    own: Own = field(default_factory=Own)


@dataclass(frozen=True)
class LoraUse:
    """A network as a picture has it; `te_strength` None stands for `strength`, `path` for no file yet."""

    name: str
    strength: float = 1.0
    te_strength: float | None = None
    own: Own = field(default_factory=Own)
    path: Path | None = None

    def tag(self) -> str:
        """Return it in WebUIs' prompt syntax."""
        te = "" if self.te_strength is None else f":{self.te_strength!r}"
        named = {"pg": self.own.ratio, "weak": self.own.strength}
        own = "".join(f":{name}={value!r}" for name, value in named.items() if value is not None)
        return f"<lora:{self.name}{te}:{self.strength!r}{own}>"


def called(path: Path) -> str:
    """Return what the user calls a file or folder: its name, without the ending that all of them have."""
    return path.stem if path.suffix == ".safetensors" else path.name


def hash_key(name: str) -> str:
    """Return what WebUIs call a network in the list of hashes."""
    return name.replace(":", "").replace(",", "")


def tagged(network: PromptNetwork) -> LoraUse:
    """Return the network of a prompt's tag."""
    te = None if network.te_strength == network.unet_strength else network.te_strength
    return LoraUse(network.name, network.unet_strength, te, network.own)


def brought_together(
    uses: Sequence[LoraUse],
    given: Sequence[LoraFile],
    hashes: Mapping[str, str],
    hash_of: Callable[[Path, int], str],
) -> tuple[LoraUse, ...]:
    """Find the files of the tagged networks, and let `--lora` change networks and add some.

    The first `--lora` of a file changes the first network with that file, the second the second; what is
    left over is added. A network whose file was not given keeps `path` None. As in prompts, what one use of a
    file says of the weak branch holds for all of them.

    Args:
        uses: the networks of the prompt.
        given: those of the command line, in its order.
        hashes: the hash that a picture has of a network's file, by `hash_key`.
        hash_of: returns the hash of a file in so many digits.

    Raises:
        UsageError: a name fits two files, or there are over 100 networks.
    """
    names = names_of([lora.path for lora in given])
    waiting, found = list(given), []
    for use in uses:
        path = _file_of(use.name, names, hashes.get(hash_key(use.name), ""), hash_of)
        change = next((lora for lora in waiting if path and _real(lora.path) == _real(path)), None)
        if change is not None:
            waiting.remove(change)
            use = _changed(use, change)
        found.append(replace(use, path=path))
    label = {_real(path): name for path, name in names.items()}
    found += [_changed(LoraUse(label[_real(lora.path)], path=lora.path), lora) for lora in waiting]
    if len(found) > _USES_MAX:
        raise UsageError(f"{len(found)} networks are too many; give at most {_USES_MAX}")
    for use in found:
        if use.path is not None:
            _check_strengths(use)
    return _with_shared_own(found)


def _with_shared_own(uses: Sequence[LoraUse]) -> tuple[LoraUse, ...]:
    own: dict[str, Own] = {}
    files = [use.name if use.path is None else _real(use.path) for use in uses]
    for file, use in zip(files, uses, strict=True):
        own[file] = use.own.after(own.get(file, Own()))
    return tuple(replace(use, own=own[file]) for file, use in zip(files, uses, strict=True))


def names_of(paths: Sequence[Path]) -> dict[Path, str]:
    """Return a name for each file, once; files of one name are told apart by the folder they lie in.

    A name holds nothing that would end it in a prompt's tag.
    """
    different = {_real(path): path for path in reversed(paths)}  # the first spelling of each
    files = [path for path in dict.fromkeys(paths) if path in different.values()]
    names = {path: _clean(called(path)) for path in files}
    shared = Counter(name.casefold() for name in names.values())
    for path, name in names.items():
        if shared[name.casefold()] > 1:
            names[path] = f"{_clean(Path(os.path.abspath(path)).parent.name)}/{name}"
    seen: Counter[str] = Counter()
    for path, name in names.items():
        seen[name.casefold()] += 1
        if seen[name.casefold()] > 1:
            names[path] = f"{name} {seen[name.casefold()]}"
    return names


def repeated(uses: Sequence[LoraUse]) -> list[str]:
    """Return a sentence for each file that is used more than once."""
    by_file: dict[str, list[LoraUse]] = {}
    for use in uses:
        if use.path is not None:
            by_file.setdefault(_real(use.path), []).append(use)
    return [
        f"network {same[0].name!r} is given {len(same)} times and used as often; its strengths add up, to "
        f"{sum(use.strength for use in same):g}"
        for same in by_file.values()
        if len(same) > 1
    ]


def _file_of(
    name: str, names: Mapping[Path, str], digest: str, hash_of: Callable[[Path, int], str]
) -> Path | None:
    same = [path for path in names if digest and hash_of(path, len(digest)) == digest]
    called_so = [path for path, unique in names.items() if unique.casefold() == name.casefold()]
    # The picture may know it by another path: WebUIs' networks lie in folders, ours are told apart by them.
    alike = [path for path in names if called(path).casefold() == name.rpartition("/")[2].casefold()]
    candidates = [path for path in called_so if path in same] or same[:1] or called_so or alike
    if len(candidates) > 1:
        files = " and ".join(repr(str(path)) for path in candidates)
        raise UsageError(f"the network {name!r} of the prompt may be {files}; give one of them")
    return candidates[0] if candidates else None


def _changed(use: LoraUse, lora: LoraFile) -> LoraUse:
    """Return a network with what `--lora` says (not None) put over it."""
    if lora.strength is not None:
        use = replace(use, strength=lora.strength, te_strength=lora.te_strength)
    return replace(use, own=lora.own.after(use.own))


def _check_strengths(use: LoraUse) -> None:
    low, high = STRENGTHS
    for strength in (use.strength, use.te_strength or 0.0):
        if not low <= strength <= high:
            problem = f"network {use.name!r} has strength {strength:g}"
            raise UsageError(f"{problem}; it must lie between {low:g} and {high:g}")


def _clean(name: str) -> str:
    return "".join("_" if letter in _NOT_IN_TAGS or not letter.isprintable() else letter for letter in name)


def _real(path: Path) -> str:
    return os.path.realpath(path)
