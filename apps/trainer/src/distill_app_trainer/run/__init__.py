"""What a running run has: context, folder, texts, workers, display; nothing here knows a kind of stage."""
