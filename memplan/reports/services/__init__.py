"""Reports of what users of a service see: of the fewest dies for it, and of a layout that is given."""
