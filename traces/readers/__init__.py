"""Readers of one rank: a reader for each producer, and the tables and databases they read."""
