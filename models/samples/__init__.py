"""Small MindSpore models, and their export as the graphs that memplan bundles."""
