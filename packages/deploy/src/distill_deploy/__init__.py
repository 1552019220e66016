"""Save models safely, export them verified, run them without torch."""
