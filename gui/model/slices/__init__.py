"""The slices of the timeline's tracks: what is said of them, how they are found, and what lies around them."""
