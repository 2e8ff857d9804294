"""Differences as tables, and two documents side by side."""
