"""What a window has open: documents as sessions, and how they are opened."""
