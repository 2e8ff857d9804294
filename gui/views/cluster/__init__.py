"""The page of the ranks."""
