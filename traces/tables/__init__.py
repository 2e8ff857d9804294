"""Tables of profilers as columns of texts and numbers: CSV, packed or not, and SQLite."""
