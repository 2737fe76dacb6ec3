"""The command line. No logic that a room could hold."""
