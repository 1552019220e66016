"""The results of a run, typed, and how they are shown; nothing here measures anything."""
