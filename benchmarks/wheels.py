"""``python -m benchmarks.wheels NAME …``: the versions of packages that are installed here, for pip to fetch."""

import importlib.metadata
import sys

if __name__ == "__main__":
    print(*(f"{name}=={importlib.metadata.version(name)}" for name in sys.argv[1:]))
