"""What the details panel says: of what is open, of the selected item, and of a time range."""
