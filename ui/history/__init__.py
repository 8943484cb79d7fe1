"""The page Runs: details, differences and export of a run."""
