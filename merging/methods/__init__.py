"""Methods: edits and merges, their table, the published pairs, and from a specification to merged weights."""
