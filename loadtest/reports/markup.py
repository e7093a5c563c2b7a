"""Elements of pages and drawings, as trees: what is text stays text, whatever it is made of."""

import re
from typing import Final
from xml.etree.ElementTree import Element, tostring

Child = Element | str | None

FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML, so nobody has it


def element(tag: str, *children: Child, **attributes: str | float | None) -> Element:
    """`element("a", "text", class_="x", view_box="0 0 1 1")`; None is left out, `_` at the end and inside is dropped
    or becomes a hyphen, but for the few names that SVG writes with a capital."""
    made = Element(tag, {_name(name): clean(value) for name, value in attributes.items() if value is not None})
    last: Element | None = None
    for child in children:
        if isinstance(child, Element):
            made.append(child)
            last = child
        elif child is not None and last is None:
            made.text = (made.text or "") + clean(child)
        elif child is not None and last is not None:
            last.tail = (last.tail or "") + clean(child)
    return made


def clean(value: str | float) -> str:
    """As text that a document may contain; numbers without digits that nobody sees."""
    if isinstance(value, str):
        return FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", value)
    return f"{value:.2f}".rstrip("0").rstrip(".")


def html(page: Element) -> str:
    """A whole page."""
    return "<!doctype html>\n" + tostring(page, encoding="unicode", method="html") + "\n"


def xml(drawing: Element) -> str:
    """A drawing that stands alone."""
    return tostring(drawing, encoding="unicode") + "\n"


CAPITALS: Final = {"view_box": "viewBox", "preserve_aspect_ratio": "preserveAspectRatio"}


def _name(name: str) -> str:
    return CAPITALS.get(name) or name.rstrip("_").replace("_", "-")
