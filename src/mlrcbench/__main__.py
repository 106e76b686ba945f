"""`python -m mlrcbench`: the command line."""

import sys

from mlrcbench.cli.main import main

sys.exit(main())
