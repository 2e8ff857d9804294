"""How sure matches are: other readings of a run, kinds of evidence, and curves by what runs of known truth showed."""
