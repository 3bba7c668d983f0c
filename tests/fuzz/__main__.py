"""Fuzz one reader by coverage:

    python -m tests.fuzz header --seconds 60 [--found FOLDER]

Needs atheris (`pip install atheris`). What is new goes to FOLDER; what fails is left beside as `crash-...`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("the fuzzer needs atheris; install it with: pip install atheris")

with atheris.instrument_imports(include=["lib_pg"]):
    from tests.fuzz.targets import TARGETS

from tests.hostile.mutations import ENDINGS

CORPUS = Path(__file__).parent / "corpus"
MEMORY_MIB_MAX = 2048
SECONDS_MAX = 10  # a single input
_WORDS = (
    "__metadata__",
    "dtype",
    "shape",
    "data_offsets",
    "F32",
    "F16",
    "lora_unet_a",
    "pg=",
    "weak=",
    "<lora:",
    "PG mode: ",
    "Negative prompt:",
    "parameters",
    "weak_ratio",
    "tEXt",
    "zTXt",
    "iTXt",
    "eXIf",
    "lora_adapter_metadata",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--found", type=Path, help="folder for new inputs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        words = folder / "words.dict"
        words.write_text("".join(f'"{word}"\n' for word in (*_WORDS, *filter(None, ENDINGS))), "ascii")
        found = options.found or folder / "found"
        found.mkdir(parents=True, exist_ok=True)
        (folder / "files").mkdir()

        def run(content: bytes) -> None:
            with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
                TARGETS[options.target](content, folder / "files")

        limits = [f"-rss_limit_mb={MEMORY_MIB_MAX}", f"-timeout={SECONDS_MAX}", "-max_len=4096"]
        arguments = [f"-dict={words}", f"-max_total_time={options.seconds}", *limits]
        atheris.Setup([sys.argv[0], *arguments, str(found), str(CORPUS / options.target)], run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
