"""The builder of the embedded suite `mini`: eight small CLIP image classifiers, their data and their training."""
