"""What the package says of files, in words of the page instead of the command line's options."""

import re

# As a command says it → as the page calls it; the first that fits goes first.
_ON_PAGE = (
    (r"with --base\b", "as Base model above"),
    (r"say it with --checkpoint \S+,", "choose it below “Files and trainings with several models”,"),
    (r"--take NAME of convert and init-suite", "NAME in the field Tower above"),
    (r"say --activation quick_gelu\b", "choose QuickGELU above"),
    (r"--activation gelu\b", "GELU"),
    (r"say --heads with\b", "enter as Attention heads above"),
    (r"\((?:by )?--(activation|heads)\)", "(as chosen here)"),
    (r"\bby --(activation|heads)\b", "as chosen here"),
    (r"--activation\b", "Activation"),
    (r"--heads\b", "Attention heads"),
)


def on_page(sentence: str) -> str:
    """A sentence of the package, as it fits a page with fields.

    >>> on_page("models: no file is named as a base; name one with --base; there are: a, b")
    'models: no file is named as a base; name one as Base model above; there are: a, b'
    >>> on_page("say --activation quick_gelu (models of OpenAI) or --activation gelu (LAION)")
    'choose QuickGELU above (models of OpenAI) or GELU (LAION)'
    """
    for words, field in _ON_PAGE:
        sentence = re.sub(words, field, sentence)
    return sentence
