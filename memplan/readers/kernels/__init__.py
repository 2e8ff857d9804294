"""What compilers of single kernels say of the buffers on chip."""
