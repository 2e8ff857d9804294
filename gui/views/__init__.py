"""What the app paints: widgets that show a model and turn input into calls on it."""
