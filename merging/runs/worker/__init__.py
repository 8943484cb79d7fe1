"""The worker: a process that claims queued runs, and what it reports."""
