"""What is put right once the pair model has matched: other orders, and what sizes don't tell apart."""
