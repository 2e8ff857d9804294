"""The tracks of the timeline, planned and measured, made ready for drawing."""
