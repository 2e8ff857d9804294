"""What is open and shown: plan and profile on one axis, the session, what is said of the selected item."""
