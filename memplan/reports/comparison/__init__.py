"""Reports of a plan beside its run: in words, by part and layer, by who holds the peak."""
