"""What differs: plan against profile, and two documents side by side."""
