"""Entry point of the standalone program: `python -m lib_pg`."""

import sys

from lib_pg.cli.main import main

sys.exit(main())
