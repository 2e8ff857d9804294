"""Reports of what costs time or memory, and of what changed between two profiles."""
