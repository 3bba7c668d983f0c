"""The options of `grid`: light to import, so that `--help` answers at once."""

from __future__ import annotations

from typing import Any

from lib_pg.cli.generate.options import add_options


def add_command(commands: Any) -> None:
    """Add the subcommand to an argparse subparsers object."""
    parser = commands.add_parser(
        "grid",
        help="make an X/Y/Z grid of pictures over any option of generate",
        description="Make a picture for every combination of values, as generate makes it, and contact "
        "sheets of them (grid.html and grid.png). A grid that was stopped goes on where it was when the same "
        "command is given again. `accelerate launch -m lib_pg grid ...` spreads it over GPUs.",
        epilog='example: python -m lib_pg grid --prompt "a sks dog" --seed 1 --x weak-ratio "0-1 (+0.25)" '
        '--y mode "PG, AG" --out outputs/grid',
    )
    axes = parser.add_argument_group(
        "axes", "an option of generate without its dashes, and its values: a list (1, 2, 4), of numbers also "
        "ranges (0-1 (+0.25)) and counts (0-1 [5]); quotes keep a comma"
    )  # fmt: skip
    for name, what in (("x", "columns"), ("y", "rows"), ("z", "tables")):
        axes.add_argument(f"--{name}", nargs=2, metavar=("OPTION", "VALUES"), required=name == "x", help=what)
    add_options(parser)
