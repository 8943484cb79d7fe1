"""Merges: how a stack of task vectors becomes one model. One file a method."""
