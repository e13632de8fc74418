"""Reading a report with an HTML5 parser, as a browser would."""

from __future__ import annotations

import re
from collections import Counter
from xml.etree.ElementTree import Element

import html5lib

# Values that a browser acts on; of all other attributes only the name is compared.
ACTIVE = {"src", "href", "id", "class", "style", "action", "content", "http-equiv", "name", "rel", "target", "srcset"}


def parsed(text: str) -> Element:
    return html5lib.parse(text, namespaceHTMLElements=False)


def tag_of(element: Element) -> str:
    return element.tag if isinstance(element.tag, str) else "comment"


def skeleton(root: Element) -> Counter[tuple[str, tuple[tuple[str, str], ...]]]:
    """How often each element occurs, with its attributes; the texts that are data left out, script and style kept."""
    found: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
    for element in root.iter():
        attributes = tuple(sorted((k, v if k in ACTIVE else "") for k, v in element.attrib.items()))
        found[(tag_of(element), attributes)] += 1
        if tag_of(element) in ("script", "style", "template", "iframe", "noscript"):
            found[("text of " + tag_of(element), (("text", "".join(element.itertext())),))] += 1
    return found


def words(root: Element) -> str:
    """All text and all passive attributes of the page, in one string."""
    parts = [t for e in root.iter() if tag_of(e) not in ("style", "comment") for t in (e.text or "", e.tail or "")]
    parts += [v for e in root.iter() for k, v in e.attrib.items() if k in ("alt", "aria-label", "title")]
    return "\n".join(parts)


def without_pictures(text: str) -> str:
    return re.sub(r'src="data:image/[^"]*"', 'src="…"', text)
