"""`python -m picolab`, and the `picolab` command."""

from __future__ import annotations

import sys

from picolab.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
