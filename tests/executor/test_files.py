"""What models are told of files: words that a process of its own read, and pictures for those that see."""

from __future__ import annotations

import io
from typing import Any
from uuid import uuid4

import pytest

from executor import files
from executor.core.budget import PICTURE, Budget, size
from executor.core.llms._transcript import UserTurn, turns
from executor.core.llms.base import BaseLlm, Endpoint
from executor.core.llms.claude import Claude
from executor.core.llms.openai_compatible import OpenAiCompatible
from executor.core.messages import File, user
from executor.database import in_database
from tools.core import apart, reading
from tools.core.peek import XLSX
from tools.models import Resource
from tools.uploads import take_in
from users.models import User

SEES: BaseLlm = OpenAiCompatible(Endpoint("m", "http://localhost:1"), images=True)
BLIND: BaseLlm = OpenAiCompatible(Endpoint("m", "http://localhost:1"))


def picture(width: int = 4, height: int = 3) -> bytes:
    from PIL import Image

    body = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(body, "PNG")
    return body.getvalue()


def document(*pages: str) -> bytes:
    """A PDF with these words."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    body = io.BytesIO()
    with PdfPages(body) as book:
        for words in pages:
            figure = Figure()
            figure.text(0.1, 0.5, words)
            book.savefig(figure)
    return body.getvalue()


def workbook(*rows: list[Any]) -> bytes:
    import openpyxl

    book = openpyxl.Workbook()
    assert book.active is not None
    for row in rows:
        book.active.append(row)
    body = io.BytesIO()
    book.save(body)
    return body.getvalue()


async def test_a_table_is_told_by_its_columns_first_rows_and_length() -> None:
    rows = "\n".join(f"{number};Graz;{number / 2}" for number in range(50_000))
    told = await reading.read("text/csv", f"id;city;value\n{rows}\n".encode())
    assert told.startswith('A table with 50,000 rows below its first one and 3 columns: ["id", "city", "value"]')
    assert told.endswith('["4", "Graz", "2.0"]')
    assert len(told) < 500


async def test_a_workbook_is_told_by_its_sheets() -> None:
    told = await reading.read(XLSX, workbook(["city", "people"], ["Vienna", 2_000_000], ["Graz", None]))
    assert told == (
        'Sheet "Sheet": A table with about 2 rows below its first one and 2 columns: ["city", "people"]\n'
        'First rows:\n["Vienna", "2000000"]\n["Graz", ""]'
    )


async def test_a_document_is_told_by_its_words_page_by_page() -> None:
    told = await reading.read("application/pdf", document("The answer is 42", "and no more"))
    assert told.split("\n") == ["2 pages.", "[Page 1]", "The answer is 42", "[Page 2]", "and no more"]


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
async def test_a_text_is_told_whatever_it_is_written_in(charset: str) -> None:
    assert await reading.read("text/plain", "Grüße\n".encode(charset)) == "Grüße\n"


async def test_a_long_text_is_cut_with_a_note() -> None:
    told = await reading.read("text/plain", b"a" * 150_000)
    assert told.endswith("a\n[The first 100,000 of 150,000 characters.]")


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/pdf", b"%PDF-1.7\n" + b"<<" * 100_000),
        ("application/pdf", b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 1 0 R>>endobj\ntrailer<</Root 1 0 R>>"),
        (XLSX, b"PK\x03\x04" + bytes(500)),
        ("image/png", b"\x89PNG\r\n\x1a\n" + bytes(100)),
        ("text/csv", b'"' + b"a" * 300_000),
    ],
)
async def test_what_is_damaged_is_told_to_be(media_type: str, body: bytes) -> None:
    try:
        told = await reading.read(media_type, body)
    except apart.Unreadable as why:
        told = str(why)
    assert told
    assert len(told) < 1_000


@pytest.mark.usefixtures("_database_threads")
@pytest.mark.django_db(transaction=True)
async def test_a_file_is_read_once_and_told_with_the_words(alice: User) -> None:
    row = await in_database(take_in, alice, uuid4(), "cities.csv", [b"city,people\nVienna,2\n"])
    await files.read([row.pk])
    await in_database(row.refresh_from_db)
    assert row.told == (
        '21 bytes. A table with 1 rows below its first one and 2 columns: ["city", "people"]\n'
        'First rows:\n["Vienna", "2"]'
    )
    await in_database(Resource.objects.update, told="As it was read before")
    await files.read([row.pk])
    await in_database(row.refresh_from_db)
    assert row.told == "As it was read before"


@pytest.mark.usefixtures("_database_threads")
@pytest.mark.django_db(transaction=True)
async def test_pictures_go_to_models_that_see_and_are_named_to_others(alice: User) -> None:
    row = await in_database(take_in, alice, uuid4(), "red.png", [picture()])
    said = user("What is this?", File("image/png", f"resource:{row.pk}", "red.png", "80 bytes. A picture"))
    [shown] = await files.with_pictures([said], SEES)
    assert shown.parts[1].url.startswith("data:image/png;base64,iVBOR")  # type: ignore[union-attr]
    assert size([shown]) > PICTURE
    [_, [seen]] = turns([shown])
    assert isinstance(seen, UserTurn)
    assert len(seen.pictures) == 1
    [named] = await files.with_pictures([said], BLIND)
    [_, [told]] = turns([named])
    assert told == UserTurn(
        "What is this?\n\n[attached file: red.png (image/png)]\n80 bytes. A picture\n[end of the attached file]"
    )
    assert Claude(Endpoint("m")).can_see


@pytest.mark.usefixtures("_database_threads")
@pytest.mark.django_db(transaction=True)
async def test_a_large_picture_is_made_smaller(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.core.pictures.LARGEST", 100)
    row = await in_database(take_in, alice, uuid4(), "wide.png", [picture(3_000, 20)])
    said = user("What is this?", File("image/png", f"resource:{row.pk}", "wide.png"))
    [shown] = await files.with_pictures([said], SEES)
    url = shown.parts[1].url  # type: ignore[union-attr]
    assert url.startswith("data:image/jpeg;base64,")
    from PIL import Image

    with Image.open(io.BytesIO(__import__("base64").b64decode(url.partition(",")[2]))) as small:
        assert small.size == (1_568, 10)


def test_a_file_that_is_longer_than_the_model_reads_is_cut() -> None:
    said = user("Sum it up", File("text/plain", "resource:x", "long.txt", "word " * 20_000))
    [told] = Budget(room=10_000).fit([said])
    assert told.text == "Sum it up"
    assert size([told]) <= 10_000
    assert "more characters are left out here" in told.parts[1].text  # type: ignore[union-attr]
