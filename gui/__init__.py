"""The desktop app: plan and profile on one time axis. The only part of memplan that imports Qt."""
