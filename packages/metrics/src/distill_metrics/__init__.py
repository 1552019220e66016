"""ROUGE, BLEU, chrF, BERTScore, error rates and perplexity, offline, with honest comparisons."""
