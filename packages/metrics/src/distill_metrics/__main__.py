"""``python -m distill_metrics``."""

import sys

from distill_metrics.cli import main

if __name__ == "__main__":
    sys.exit(main())
