"""What a document opens on: its figures at a glance, steps taken apart, and findings."""
