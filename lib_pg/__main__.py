"""Entry point of the standalone program: `python -m lib_pg`."""

import sys

try:
    from lib_pg.cli.main import main

    code = main()
except KeyboardInterrupt:  # so early that nothing has begun
    print("interrupted", file=sys.stderr)
    code = 130
sys.exit(code)
