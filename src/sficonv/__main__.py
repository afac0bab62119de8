"""`python -m sficonv`."""

import sys

from sficonv.cli import main

sys.exit(main())
