"""Known defects for simulated jobs: planted alone, and as they look in the field among the noise of real machines."""
