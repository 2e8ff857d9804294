"""One op as a kernel on an AI core: pipes, buffers, and its place under the roofline."""
