"""What is listed: the tables of views, and what views on the time axis are as tables."""
