"""The tracks of the timeline: their lanes, their slices, and what is said of them."""
