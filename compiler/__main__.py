"""`python -m compiler` is the console script."""

import sys

from compiler.cli import main

sys.exit(main())
