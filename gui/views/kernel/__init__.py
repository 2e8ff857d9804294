"""One kernel, painted, and the roofline."""
