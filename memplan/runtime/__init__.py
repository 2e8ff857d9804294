"""Plans in training scripts: what a plan sets in the program that runs, and memory watched against it."""
