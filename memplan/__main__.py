"""`python -m memplan` is the `memplan` command."""

import sys

from memplan.cli import main

sys.exit(main())
