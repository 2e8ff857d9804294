"""Steps of PyTorch programs in the running process, recorded on tensors without data."""
