"""Text of HTML that a tool keeps for descriptions and comments: paragraphs, breaks and lists become lines, the rest is text."""

import html
import re
from html.parser import HTMLParser
from typing import Final

_BLOCKS: Final = frozenset({"p", "div", "br", "li", "tr", "table", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre", "hr"})
_UNSEEN: Final = frozenset({"script", "style", "head", "title"})
_TAG: Final = re.compile(r"</?(?:p|div|br|span|b|i|ul|ol|li|table|a|strong|em|font|h[1-6]|blockquote|pre|html|body)\b[^>]*>", re.IGNORECASE)


class _Text(HTMLParser):
    """Collects what a reader would see."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002  # the interface's
        if tag in _UNSEEN:
            self._unseen += 1
        elif tag in _BLOCKS:
            self.parts.append("\n- " if tag == "li" else "\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _UNSEEN:
            self._unseen = max(0, self._unseen - 1)
        elif tag in _BLOCKS and tag != "br":
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(data)


def text_of(source: str) -> str:
    """The text of HTML, also of HTML whose own tags are written as entities; plain text stays as it is."""
    if "<" not in source and "&" in source:
        unescaped = html.unescape(source)
        if not _TAG.search(unescaped):
            return unescaped
        source = unescaped
    if not _TAG.search(source):
        return source
    parser = _Text()
    parser.feed(source)
    parser.close()
    lines = [" ".join(line.split()) for line in "".join(parser.parts).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
