"""Graphs, plans and profiles that ship with memplan; all made by its own exporter and simulator."""
