"""The window itself: its docks, commands, dialogs, settings, and the side by side of two documents."""
