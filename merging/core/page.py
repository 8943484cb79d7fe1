"""Pages of their own that need no script and fetch nothing: they open anywhere, in ten years too."""

import html

# A browser keeps to this even if something slipped past the escaping: no script, no request.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def static_page(title: str, style: str, body: str) -> str:
    """One HTML file.

    Args:
        title: plain text.
        style: CSS.
        body: HTML, in which all text from outside is escaped.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )
