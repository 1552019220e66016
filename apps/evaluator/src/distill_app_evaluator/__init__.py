"""distill-eval: score one model or compare several."""
