"""Graphs of PyTorch: programs that `torch.export` saved, and modules in the running process."""
