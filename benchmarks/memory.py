"""Peak anonymous memory of a block of code: resident pages of mapped files do not count."""

import threading
from pathlib import Path
from types import TracebackType

_STATUS = Path("/proc/self/status")


def anonymous_bytes() -> int:
    """Anonymous memory of this process now; 0 where the system does not tell."""
    if not _STATUS.exists():
        return 0
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


class PeakMemory:
    """Samples anonymous memory from a thread; ``peak`` is the most above what was held at the start, in bytes."""

    def __enter__(self) -> "PeakMemory":
        self.start = self.most = anonymous_bytes()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(0.005):
            self.most = max(self.most, anonymous_bytes())

    @property
    def peak(self) -> int:
        """Bytes above the start."""
        return self.most - self.start
