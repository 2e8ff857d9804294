"""Plans that are tried out in the window: asked for with more or less memory, and what came of each."""
