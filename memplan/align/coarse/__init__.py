"""Where kernels stand in a long plan or run, roughly."""
