"""The rows of a plan in the order in which a run has them."""
