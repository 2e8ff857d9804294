"""The ranks of a profile beside each other."""
