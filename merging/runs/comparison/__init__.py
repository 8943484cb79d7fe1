"""Runs side by side: differences on the same images, settings, one report."""
