"""Edits: what is done to the task vectors before they are merged. One file a method."""
