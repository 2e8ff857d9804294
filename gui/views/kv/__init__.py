"""The KV budget, painted, and its form."""
