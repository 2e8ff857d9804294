"""What logs of engines and runs tell: memory of a worker, use of its cache, allocations that failed."""
