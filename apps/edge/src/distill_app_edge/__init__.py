"""distill-edge: run an exported model without torch."""
