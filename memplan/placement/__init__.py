"""Where every byte lives and when it moves: host moves, HBM offsets, one simulated timeline, and their check."""
