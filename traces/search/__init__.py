"""Looks into what a search for profiles found: archives, devices of one process, processes of torch.profiler."""
