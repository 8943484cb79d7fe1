"""Files that somebody hands in to make a suite of: uploaded, in archives, or linked to where they lie."""
