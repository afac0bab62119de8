"""`python -m sficonv`."""

import sys

from sficonv.cli.app import main

sys.exit(main())
