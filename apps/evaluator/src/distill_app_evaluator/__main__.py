"""``python -m distill_app_evaluator``."""

import sys

from distill_app_evaluator.cli import main

if __name__ == "__main__":
    sys.exit(main())
