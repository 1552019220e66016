"""Distil causal, seq2seq and masked language models with a loss that is provably right."""
