"""``python -m distill_app_trainer``."""

import sys

from distill_app_trainer.cli import main

sys.exit(main())
