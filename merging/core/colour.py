"""Colours as numbers."""


def luminance(color: str) -> float:
    """Relative luminance, 0 … 1, of a colour ``#rrggbb`` as WCAG 2.1 defines it."""
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 … 21, as WCAG 2.1 defines it.

    >>> round(contrast("#ffffff", "#000000"), 1)
    21.0
    """
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def ink_on(color: str) -> str:
    """Black or white, whichever has the higher contrast on a colour ``#rrggbb``: at least 4.58 to 1 on any.

    Contrast as in WCAG 2.1, section 1.4.3; it asks for 4.5 to 1.

    >>> ink_on("#ffffff"), ink_on("#12508c")
    ('#000000', '#ffffff')
    """
    return "#000000" if (luminance(color) + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"
