"""``python -m distill_deploy``."""

from distill_deploy.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
