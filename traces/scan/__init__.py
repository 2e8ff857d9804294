"""Trace JSON as columns: a compiled scanner over pieces of a file, on several threads, in bounded memory."""
