"""Every text of the console goes through the catalogue, and the catalogue is that of the present texts."""

import re
from pathlib import Path
from typing import Any

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po

from api.console import language

ROOT = Path(__file__).parents[2]
LOCALE = ROOT / "api" / "locale"
TEMPLATES = ROOT / "api" / "templates"
KEYWORDS = {
    "_": None, "gettext": None, "ngettext": (1, 2), "mark": None, "translate": None, "many": (1, 2), "InvalidInput": (2,), "Phrase": (1,), "required": (3,),
    "plain_name": (3,), "NotFound": (1,), "NotAllowed": None, "Conflict": None,
}
# Names, units and signs that are the same in every language.
UNTRANSLATED = re.compile(r"(· )?Tocsin|REQ-|INC-1|[·–—▲‹›✕×→↗?,:.…0()\s]+|UTC|tocsin (source|recipient) add|/[\w/]*|Europe/\w+|(enter|esc|[a-zA-Z?.\[\]])")


def test_the_catalogue_holds_the_present_texts() -> None:
    with (LOCALE / "babel.cfg").open() as config:
        methods, options = parse_mapping_cfg(config)  # type: ignore[no-untyped-call]  # babel types it in part
    found = {
        message[0] if isinstance(message, tuple) else message
        for *_, message, _comments, _context in extract_from_dir(ROOT, methods, options, keywords=KEYWORDS, directory_filter=ours)
    }
    with (LOCALE / "tocsin.pot").open("rb") as file:
        template = {message.id[0] if isinstance(message.id, tuple) else message.id for message in read_po(file) if message.id}
    assert found == template, "run: make words"


def ours(folder: object) -> bool:
    return Path(str(folder)).relative_to(ROOT).parts[:1] in ((), ("api",), ("engine",), ("projections",))


def test_the_templates_hold_no_text_that_is_not_translated() -> None:
    loose = []
    for file in sorted(TEMPLATES.rglob("*.html")):
        source = re.sub(r"{%-?\s*trans\b.*?endtrans\s*-?%}", "", file.read_text(), flags=re.DOTALL)
        source = re.sub(r'aria-[a-z]+="[a-z]+"', "", source)  # attributes that a macro hands over
        source = re.sub(r"{{.*?}}|{%.*?%}|{#.*?#}", "\x00", source, flags=re.DOTALL)
        source = re.sub(r"<[^>]*>", "\x00", source)
        loose += [(file.name, text.strip()) for text in source.split("\x00") if text.strip() and not UNTRANSLATED.fullmatch(text.strip())]
    assert loose == []


@pytest.mark.parametrize("name", sorted(set(language.LANGUAGES) - {language.DEFAULT}))
def test_every_text_is_there_in_every_language(name: str) -> None:
    with (LOCALE / f"{name}.po").open("rb") as file:
        catalogue = read_po(file, locale=name)
    with (LOCALE / "tocsin.pot").open("rb") as file:
        texts = {message.id for message in read_po(file) if message.id}
    assert {message.id for message in catalogue if message.id} == texts, "run: make words"
    lacking: list[Any] = []
    broken: list[tuple[Any, str]] = []
    for message in catalogue:
        if not message.id:
            continue
        said = [str(text or "") for text in (message.string if isinstance(message.string, tuple | list) else [message.string])]
        if message.fuzzy or not all(said) or len(said) != (catalogue.num_plurals if message.pluralizable else 1):
            lacking.append(message.id)
            continue
        broken += [(message.id, str(error)) for error in message.check(catalogue)]
        # Babel's own check compares printf marks; blanks at the ends and braces are ours.
        first = str(message.id[0] if message.pluralizable else message.id)
        broken += [(message.id, text) for text in said if outer(text) != outer(first) or braces(text) != braces(first)]
    assert (lacking, broken) == ([], [])


def outer(text: str) -> tuple[bool, bool]:
    """Whether it begins and ends with a blank: it is put together with something else then."""
    return text[:1].isspace(), text[-1:].isspace()


def braces(text: str) -> list[str]:
    return sorted(re.findall(r"\{\w*\}", text))


def test_each_language_speaks() -> None:
    said = {}
    for name in language.LANGUAGES:
        language.choose(name)
        said[name] = (language.gettext("Queue"), language.ngettext("%(count)s alert", "%(count)s alerts", 2) % {"count": 2})
    language.choose(language.DEFAULT)
    assert len(set(said.values())) == len(language.LANGUAGES)
