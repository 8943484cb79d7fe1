"""The guided lesson of the page Learn: its steps, its questions, and the answers that the numbers give."""
