"""What ops and kernels are compared by: families of types, sizes of operands, and how far one is the other."""
