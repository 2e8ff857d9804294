"""MindIR: the protobuf decoded, the program run symbolically, its ops put into a graph."""
