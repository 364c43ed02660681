"""Files on tickets over HTTP: taken where content and name agree, within limits, and given out for saving only."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from api.app import create_app
from api.attaching import MEDIA_TYPES, UploadedFile, media_type_of
from api.door import SESSION_COOKIE
from api.file_routes import disposition
from api.house import House, open_house
from engine.errors import InvalidInput
from engine.ticket import TicketFileAttached
from projections.runner import Runner
from tests.stores import bodies_in, settings_at

Headers = Callable[[str], dict[str, str]]
PASSWORD = "a long password"


def packed(**entries: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return made.getvalue()


def office(folder: str) -> bytes:
    return packed(**{"[Content_Types].xml": "<Types/>", f"{folder}/main.xml": "<x/>"})


PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(40)
RIGHT = {
    "png": PNG,
    "jpg": b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(40),
    "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(40),
    "gif": b"GIF89a" + bytes(40),
    "webp": b"RIFF\x24\0\0\0WEBPVP8 " + bytes(40),
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "txt": "BMW order failed: Größe unbekannt\n".encode(),
    "log": b"2026-03-02 12:00:01 ERROR <html> was expected\n",
    "csv": "\ufeffname;size\r\nscreen;7\r\n".encode(),
    "json": b'\n{"level": "error"}',
    "docx": office("word"),
    "xlsx": office("xl"),
    "pptx": office("ppt"),
    "odt": packed(mimetype=MEDIA_TYPES["odt"]),
    "ods": packed(mimetype=MEDIA_TYPES["ods"]),
    "zip": packed(**{"a.log": "x"}),
    "eml": b"Received: from mx by mail\r\nSubject: help\r\n\r\nIt is broken",
}
SVG = b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
WRONG = {
    "setup.exe": b"MZ\x90" + bytes(80),
    "page.html": b"<!doctype html><p>hello",
    "drawing.svg": SVG,
    "run.sh": b"#!/bin/sh\nrm -rf /",
    "macro.docm": office("word"),
    "nothing": b"hello",
    "screen.png": b"MZ\x90" + bytes(80),
    "photo.jpg": PNG,
    "drawing.png": SVG,
    "page.txt": b"\n <HTML><body>",
    "drawing.txt": SVG,
    "run.log": b"#!/bin/sh\nrm -rf /",
    "program.txt": b"\x7fELF" + bytes(80),
    "wide.txt": b"\xff\xfe" + "<script>alert(1)</script>".encode("utf-16-le"),
    "frames.txt": b"\xff\xfe\0\xd8\0",
    "letter.docx": packed(**{"a.log": "x"}),
    "sheet.xlsx": office("word"),
    "text.odt": packed(mimetype="text/html"),
    "broken.zip": b"PK\x03\x04" + bytes(30),
    "mail.eml": b"no header at all\nand none here",
    "data.json": b"words are no data",
    "empty.txt": b"",
}


@pytest.mark.parametrize("ending", MEDIA_TYPES)
def test_a_file_of_every_kind_on_the_list_is_taken_as_what_it_is(ending: str) -> None:
    assert media_type_of(UploadedFile(f"some.file.{ending.upper()}", RIGHT[ending])) == MEDIA_TYPES[ending]


@pytest.mark.parametrize("name", WRONG)
def test_what_a_browser_or_a_shell_would_run_or_is_not_what_it_says_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"^files: expected ") as refused:
        media_type_of(UploadedFile(name, WRONG[name]))
    assert name in str(refused.value)


def test_text_of_another_encoding_is_text() -> None:
    for encoding in ("latin-1", "utf-16", "cp1252"):
        assert media_type_of(UploadedFile("notes.txt", "Größe".encode(encoding))) == "text/plain"


class Desk:
    """One ticket of Rita's, and what is done with its files."""

    def __init__(self, client: TestClient, headers: Headers, house: House) -> None:
        self.client, self.headers, self.house = client, headers, house
        house.directory.open_account(login="rita", name="Rita", role="requester", password=PASSWORD)
        body = {"title": "It shows nonsense", "requester": "rita"}
        self.number = client.post("/api/v1/incidents", json=body, headers=headers("agent")).json()["number"]

    @property
    def path(self) -> str:
        return f"/api/v1/tickets/{self.number}/files"

    def send(self, *files: tuple[str, bytes], data: dict[str, str] | None = None, more: dict[str, str] | None = None) -> Response:
        sent = [("files", (name, content)) for name, content in files]
        return self.client.post(self.path, files=sent, data=data or {}, headers={**self.headers("agent"), **(more or {})})

    def attached(self) -> list[TicketFileAttached]:
        return [fact.event for fact in self.house.ledger.read(0, 1_000) if isinstance(fact.event, TicketFileAttached)]

    def get(self, file: str, role: str = "agent") -> Response:
        return self.client.get(f"{self.path}/{file}", headers=self.headers(role))

    def sign_in(self, login: str) -> None:
        signed = self.client.portal.call(self.house.directory.sign_in, login, PASSWORD, "127.0.0.1")  # type: ignore[union-attr]  # inside the lifespan
        self.client.cookies.set(SESSION_COOKIE, signed.secret)


@pytest.fixture
def desk(client: TestClient, headers: Headers, house: House) -> Desk:
    return Desk(client, headers, house)


def test_a_file_comes_back_to_the_byte_for_saving_and_never_for_showing(desk: Desk) -> None:
    answer = desk.send(("C:\\shots\\Größe “1”.png", PNG), ("error.log", b"it broke"))
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["number"], told["version"]) == (desk.number, 3)
    assert answer.headers["ETag"] == '"3"'
    assert [(file["name"], file["media_type"], file["length"]) for file in told["files"]] == [
        ("Größe “1”.png", "image/png", len(PNG)), ("error.log", "text/plain", 8),
    ]
    got = desk.get(told["files"][0]["id"])
    assert (got.status_code, got.content, got.headers["content-type"]) == (200, PNG, "image/png")
    assert got.headers["content-disposition"] == (
        "attachment; filename=\"Gr__e _1_.png\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%E2%80%9C1%E2%80%9D.png"
    )
    assert got.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in got.headers.get_list("content-security-policy")
    assert got.headers["cache-control"] == "no-store"


def test_the_name_of_a_file_cannot_break_out_of_its_header() -> None:
    assert disposition('a"; filename=x\\.exe%') == "attachment; filename=\"a_; filename=x_.exe_\"; filename*=UTF-8''a%22%3B%20filename%3Dx%5C.exe%25"


def test_a_wrong_file_among_right_ones_is_named_and_none_is_recorded(desk: Desk) -> None:
    answer = desk.send(("screen.png", PNG), ("setup.exe", b"MZ\x90" + bytes(9)))
    assert answer.status_code == 422
    assert answer.json()["field"] == "files"
    assert "setup.exe" in answer.json()["detail"]
    assert "png" in answer.json()["expected"]
    assert desk.attached() == []


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ([("small.txt", b"x"), ("big.log", b"x" * 1_001)], "“big.log” is larger than 1000 bytes"),
        ([(f"{place}.txt", b"x") for place in range(6)], "“5.txt” is one file too many: at most 5 at once"),
        ([("huge.log", b"x" * 700_000)], "the form with its files is larger than 581 KB: at most 5 files of 1000 bytes each"),
    ],
)
def test_over_a_limit_nothing_is_taken_and_the_file_and_the_limit_are_named(
    tmp_path: Path, files: list[tuple[str, bytes]], named: str
) -> None:
    house = open_house(settings_at(tmp_path / "data", {"TOCSIN_MAX_FILE_BYTES": "1000"}))
    token = {"Authorization": f"Bearer {house.directory.create_token(role='agent')}"}
    with TestClient(create_app(house, Runner(house.ledger, tmp_path / "data" / "views.db"))) as client:
        desk = Desk(client, lambda _role: token, house)
        answer = desk.send(*files)
        assert answer.status_code == 413
        assert named in answer.json()["detail"]
        assert desk.attached() == []
        assert client.app.state.bodies.held == 0  # type: ignore[attr-defined]
        assert desk.send(("right.log", b"x" * 1_000)).status_code == 200
        assert client.app.state.bodies.held == 0  # type: ignore[attr-defined]


def test_a_file_lies_on_no_disk_in_plain(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = b"canary 7f3a" * 300_000  # more than a form library keeps in memory

    def rolled(*_: object) -> None:
        raise AssertionError("a file was put on the disk")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", rolled)
    answer = desk.send(("canary.log", canary))
    assert answer.status_code == 200
    assert desk.get(answer.json()["files"][0]["id"]).content == canary
    for file in (tmp_path / "data").iterdir():
        assert b"canary 7f3a" not in file.read_bytes(), file.name


def test_files_are_attached_once_per_idempotency_key_and_only_to_the_version_that_was_seen(desk: Desk) -> None:
    key = {"Idempotency-Key": "first-try"}
    first = desk.send(("screen.png", PNG), more=key)
    again = desk.send(("screen.png", PNG), more=key)
    assert (again.status_code, again.json()) == (200, first.json())
    assert len(desk.attached()) == 1
    assert desk.send(("other.png", PNG + b"1"), more=key).status_code == 422
    assert desk.send(("screen.png", PNG), more={"If-Match": '"1"'}).status_code == 412
    assert desk.send(("screen.png", PNG), more={"If-Match": '"2"'}).status_code == 200


def test_what_is_no_form_with_files_is_refused_in_words(desk: Desk) -> None:
    agent = desk.headers("agent")
    for answer, named in (
        (desk.client.post(desk.path, json={}, headers=agent), "Content-Type"),
        (desk.send(data={"visibility": "internal"}), "files"),
        (desk.send(("a.txt", b"x"), data={"visibility": "everybody"}), "visibility"),
        (desk.send(("a.txt", b"x"), data={"colour": "red"}), "colour"),
        (desk.client.post(desk.path, content=b"--x\r\n", headers={**agent, "Content-Type": "multipart/form-data"}), "form"),
        (desk.client.post(desk.path, content=b"nonsense", headers={**agent, "Content-Type": "multipart/form-data; boundary=x"}), "form"),
    ):
        assert (answer.status_code, answer.json()["field"]) == (422, named), answer.text
    assert desk.client.post("/api/v1/tickets/INC-99/files", files=[("files", ("a.txt", b"x"))], headers=agent).status_code == 404


def test_a_requester_gets_what_is_public_on_their_own_tickets(desk: Desk, house: House) -> None:
    sent: dict[str, Any] = {}
    for visibility in ("public", "internal"):
        sent[visibility] = desk.send((f"{visibility}.log", b"x"), data={"visibility": visibility})
    ids = {visibility: answer.json()["files"][0]["id"] for visibility, answer in sent.items()}
    desk.sign_in("rita")
    position = {"Tocsin-Position": sent["internal"].headers["Tocsin-Position"]}
    assert desk.client.get(f"{desk.path}/{ids['public']}", headers=position).content == b"x"
    assert desk.client.get(f"{desk.path}/{ids['internal']}").status_code == 404
    names = desk.client.get(f"/api/v1/tickets/{desk.number}/history").text
    assert "public.log" in names
    assert "internal.log" not in names
    house.directory.open_account(login="omar", name="Omar", role="requester", password=PASSWORD)
    desk.sign_in("omar")
    assert desk.client.get(f"{desk.path}/{ids['public']}").status_code == 404


def test_an_erased_file_is_gone_and_its_twin_is_not(desk: Desk) -> None:
    ids = [file["id"] for file in desk.send(("one.png", PNG), ("two.png", PNG)).json()["files"]]
    kept = desk.house.store.body(bytes.fromhex(desk.attached()[0].digest))
    assert kept is not None
    desk.house.vault.destroy(kept.key)
    gone = desk.get(ids[0])
    assert (gone.status_code, gone.json()["title"]) == (410, "Erased")
    assert desk.get(ids[1]).content == PNG
    assert desk.get(str(uuid4())).status_code == 404


def test_a_file_of_somebody_who_was_erased_is_not_given_out(desk: Desk) -> None:
    (file,) = desk.send(("screen.png", PNG)).json()["files"]
    rita = desk.house.directory.person_of("rita")
    assert rita is not None
    desk.house.vault.destroy(rita.bytes)
    assert desk.get(file["id"]).status_code == 410


def test_a_closed_ticket_takes_no_file(desk: Desk, tmp_path: Path) -> None:
    agent = desk.headers("agent")
    desk.client.post(f"/api/v1/incidents/{desk.number}/resolve", json={"code": "solved", "solution": "x"}, headers=agent)
    desk.client.post(f"/api/v1/incidents/{desk.number}/close", headers=agent)
    assert desk.send(("screen.png", PNG)).status_code == 409
    assert bodies_in(tmp_path / "data") == 0


def test_a_file_is_found_by_its_name(desk: Desk) -> None:
    position = desk.send(("Quarterly-figures.xlsx", RIGHT["xlsx"])).headers["Tocsin-Position"]
    found = desk.client.get("/api/v1/search?q=quarterly", headers={**desk.headers("agent"), "Tocsin-Position": position})
    assert [item["number"] for item in found.json()["items"]] == [desk.number]
