"""The rules of findings: a module a family, each a function from the facts of a job to its findings."""
