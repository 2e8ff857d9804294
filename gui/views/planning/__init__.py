"""Planning in the window: what is planned for, how much memory it may use, and what follows."""
