"""What everything else stands on: errors and their wording, devices and memory, streaming, files, progress."""
