"""Plans in training scripts."""
