"""The linear program of host moves: what its columns are, its rows, and the program that solvers take."""
