"""`python -m mlrcbench`: the command line."""

import sys

from mlrcbench.cli import main

sys.exit(main())
