"""The pages Task models and Add a suite."""
