"""The page Merge: its form, sweeps' form, and the same as a command line."""
