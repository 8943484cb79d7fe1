"""``python -m merging``."""

from merging.cli import main

if __name__ == "__main__":
    main(prog_name="python -m merging")
