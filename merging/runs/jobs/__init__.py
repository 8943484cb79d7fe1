"""The jobs: what the worker, the command line and the pages can have done, a file a kind."""
