"""``python -m distill_hwdetect`` is ``distill-hwdetect``."""

import sys

from distill_hwdetect.cli import main

sys.exit(main())
