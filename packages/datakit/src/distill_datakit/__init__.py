"""Load, check, split, tokenize, mask and collate text for language models."""
