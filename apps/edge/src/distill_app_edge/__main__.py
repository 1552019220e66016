"""``python -m distill_app_edge``."""

from distill_app_edge.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
