"""The questions that are open, and what phones answered: in the memory of this process, gone when closed.

A teacher opens a code and may put one question after the other under it. A phone is known by a token that the server
makes of the code's own secret, so that no list of phones has to be kept: only who answered is.
"""

import hmac
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from merging.core.errors import RunError

LETTERS = "ABCDEFGH"  # of the choices; a question has no more
_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # without what is mistaken for something else when typed by hand
_CODE = 6  # letters: a thousand million codes, of which a few are open
MOST_OPEN = 32
MOST_ANSWERS = 500  # to one question
PATIENCE = 2 * 3600.0  # seconds after which a code that no teacher looks at is closed
# Requests of all phones together. A class of thirty makes ten a second.
_A_SECOND, _AT_ONCE = 200.0, 400.0


@dataclass(frozen=True)
class PhoneQuestion:
    """What a phone shows.

    Attributes:
        number: 1 for the first under a code.
        text: the question.
        choices: two to eight.
    """

    number: int
    text: str
    choices: tuple[str, ...]


@dataclass
class _Poll:
    question: PhoneQuestion
    seen: float
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    answers: dict[str, int] = field(default_factory=dict)


class Polls:
    """All that are open in a process; may be used by several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, _Poll] = {}
        self._room, self._counted = _AT_ONCE, clock()

    def open(self, text: str, choices: tuple[str, ...]) -> str:
        """Open a code with its first question; gives the code.

        Raises:
            RunError: too many are open, or the question has one choice or more than eight.
        """
        question = _question(1, text, choices)
        with self._lock:
            now = self._clock()
            self._open = {code: poll for code, poll in self._open.items() if now - poll.seen <= PATIENCE}
            if len(self._open) >= MOST_OPEN:
                raise RunError(f"{MOST_OPEN} codes are open already; close one that is no longer needed")
            code = _new_code()
            while code in self._open:
                code = _new_code()
            self._open[code] = _Poll(question, now)
        return code

    def ask(self, code: str, text: str, choices: tuple[str, ...]) -> None:
        """Put the next question under an open code; what was answered to the one before is forgotten.

        Raises:
            RunError: the code is not open.
        """
        with self._lock:
            poll = self._open.get(code)
            if poll is None:
                raise RunError("this code is closed; open another")
            poll.question = _question(poll.question.number + 1, text, choices)
            poll.answers = {}

    def close(self, code: str) -> None:
        """Forget a code and its answers."""
        with self._lock:
            self._open.pop(code, None)

    def look(self, code: str) -> tuple[PhoneQuestion, list[int]] | None:
        """For the teacher: the question, and how many chose each choice; None if the code is closed."""
        with self._lock:
            poll = self._found(code)
            if poll is None:
                return None
            poll.seen = self._clock()
            given = list(poll.answers.values())
            return poll.question, [given.count(place) for place in range(len(poll.question.choices))]

    def codes(self) -> list[str]:
        """For teachers: all that are open, the latest first, as after a page was loaded anew."""
        with self._lock:
            return [code for code in reversed(self._open) if self._found(code) is not None]

    def question(self, code: str) -> PhoneQuestion | None:
        """For a phone: what is asked; None if the code is closed or never was."""
        with self._lock:
            poll = self._found(code)
            return None if poll is None else poll.question

    def new_phone(self, code: str) -> str:
        """A token for a phone that comes for the first time; the code has to be open."""
        nonce = secrets.token_hex(8)
        with self._lock:
            return nonce + _seal(self._open[code].secret, nonce) if code in self._open else ""

    def knows(self, code: str, phone: str) -> bool:
        """Whether a token is one that was made for this code."""
        with self._lock:
            poll = self._open.get(code)
            nonce, seal = phone[:16], phone[16:]
            return (
                poll is not None
                and phone.isascii()
                and len(phone) == 32
                and hmac.compare_digest(seal, _seal(poll.secret, nonce))
            )

    def answer_of(self, code: str, phone: str) -> int | None:
        """Which choice a phone took; None if it has not answered the question of now."""
        with self._lock:
            poll = self._open.get(code)
            return None if poll is None else poll.answers.get(phone)

    def answer(self, code: str, phone: str, number: int, choice: int) -> bool:
        """Count an answer of a phone that is known; whether it, or an earlier one of this phone, is counted.

        Args:
            code: an open one.
            phone: its token.
            number: of the question that was answered; another than that of now is not counted.
            choice: which, from 0.

        Raises:
            ValueError: there is no such choice.
        """
        with self._lock:
            poll = self._open.get(code)
            if poll is None or number != poll.question.number:
                return False
            if not 0 <= choice < len(poll.question.choices):
                raise ValueError(choice)
            if phone not in poll.answers and len(poll.answers) >= MOST_ANSWERS:
                return False
            poll.answers.setdefault(phone, choice)
            return True

    def admit(self) -> bool:
        """Whether there is time for one more request; to be asked for each."""
        with self._lock:
            now = self._clock()
            self._room = min(_AT_ONCE, self._room + (now - self._counted) * _A_SECOND)
            self._counted = now
            if self._room < 1:
                return False
            self._room -= 1
            return True

    def _found(self, code: str) -> _Poll | None:
        poll = self._open.get(code)
        return poll if poll is not None and self._clock() - poll.seen <= PATIENCE else None


def askable(choices: Sequence[str]) -> bool:
    """Whether a question with these choices can be put to phones."""
    return 2 <= len(choices) <= len(LETTERS)


def _question(number: int, text: str, choices: tuple[str, ...]) -> PhoneQuestion:
    if not askable(choices):
        raise RunError(f"this question has {len(choices)} choices; phones are asked those with 2 to {len(LETTERS)}")
    return PhoneQuestion(number, text, choices)


def _new_code() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_CODE))


def _seal(secret: bytes, nonce: str) -> str:
    return hmac.new(secret, nonce.encode(), "sha256").hexdigest()[:16]
