"""What the app knows and shows, without Qt: everything here can be driven and tested without a display."""
