"""Reports of KV caches: budgets, measured use, engines, workers, lookup tables."""
