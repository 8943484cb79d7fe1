"""What a phone sees, as whole pages that work without scripts."""

import base64
import hashlib
import html

from ui.shell.poll.polls import LETTERS, PhoneQuestion

NUMBER = "X-Question"  # header: number of the question that is asked now
_LOOK_AGAIN = 4  # seconds after which a phone that has answered asks whether there is another question
# The only script: loads the page again once there is another question, or none. A page that reloads by itself all the
# time would be read out each time.
_SCRIPT = f"""
const now = document.querySelector("main").dataset.question;
setInterval(() => fetch(location.href, {{method: "HEAD"}}).then(
  answer => {{ if (answer.status != 429 && answer.headers.get("{NUMBER}") != now) location.reload(); }}, () => {{}}
), {1000 * _LOOK_AGAIN});
"""
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
# A browser runs no other script, loads no picture or font, and does not show the page inside of another.
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_HASH}'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_STYLE = """
:root { color-scheme: light dark; font: 1.25rem/1.4 system-ui, sans-serif; }
body { max-width: 34rem; margin: 0 auto; padding: 1rem; background: light-dark(#fff, #11151c);
  color: light-dark(#0d141d, #e6eaf0); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.3; margin: .5rem 0 1.25rem; }
button { display: flex; align-items: center; width: 100%; min-height: 4.5rem; margin: 0 0 .9rem; padding: .75rem 1rem;
  font: inherit; color: inherit; text-align: left; border-radius: .75rem;
  border: 2px solid light-dark(#1f6fb2, #7ab8ec);
  background: light-dark(#eef5fb, #1a2735); cursor: pointer; }
button:active, button:focus-visible { outline: 4px solid light-dark(#1f6fb2, #7ab8ec); }
a { color: light-dark(#1f6fb2, #7ab8ec); } button b { flex: 0 0 2rem; } .quiet { color: light-dark(#4a5566, #aab4c2); }
"""


def asking(question: PhoneQuestion, phone: str) -> str:
    """The question with a large button for each choice.

    Args:
        question: what is asked.
        phone: the token, which is sent back with the answer.
    """
    buttons = "".join(
        f'<button name="choice" value="{place}"><b>{letter}</b><span>{html.escape(text)}</span></button>'
        for place, (letter, text) in enumerate(zip(LETTERS, question.choices, strict=False))
    )
    return _page(
        "Question",
        f'<h1>{html.escape(question.text)}</h1><form method="post" autocomplete="off">'
        f'<input type="hidden" name="phone" value="{html.escape(phone)}">'
        f'<input type="hidden" name="question" value="{question.number}">{buttons}</form>',
    )


def answered(question: PhoneQuestion, choice: int) -> str:
    """What a phone has answered; looks again by itself, as the next question comes under the same code."""
    return _page(
        "Answered",
        f'<h1>{html.escape(question.text)}</h1><p role="status">Your answer: <b>{LETTERS[choice]}</b> '
        f'{html.escape(question.choices[choice])}</p><p class="quiet">It is counted. Look at the screen in front. If '
        'another question is asked, it appears here.</p><p><a href="">Look for another question</a></p>',
        f' data-question="{question.number}"',
        f"<script>{_SCRIPT}</script>",
    )


def said(title: str, text: str) -> str:
    """A page that says why there is no question."""
    return _page(title, f'<h1>{html.escape(title)}</h1><p class="quiet">{html.escape(text)}</p>')


def _page(title: str, body: str, about: str = "", script: str = "") -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><main{about}>{body}</main>{script}</body></html>\n"
    )
