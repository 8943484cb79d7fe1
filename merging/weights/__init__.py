"""Weights: reading and writing their files, and what task vectors look like."""
