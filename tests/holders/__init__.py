"""Tests of who holds memory."""
