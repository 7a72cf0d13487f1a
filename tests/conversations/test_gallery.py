"""The files of a conversation: on its page, in its gallery, in one archive, and nowhere when they are deleted."""

from __future__ import annotations

import io
import zipfile
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from django.urls import reverse

from conversations import actions
from conversations.models import Turn
from executor.models import Agent
from tests.conversations.test_live import Scene, scene
from tests.conversations.test_pages import soup
from tests.conversations.worker import db, hold
from tools.core.context import NewFile
from tools.models import Resource
from tools.resources import store
from tools.uploads import attach, take_in
from users.models import User

__all__ = ["scene"]

WAVE = b"RIFF\x24\0\0\0WAVEfmt " + bytes(100)


def keep(turn: Turn, name: str, data: bytes, media_type: str, call: str = "call-1") -> Resource:
    return store(turn.task.user_id, turn.task_id, call, [NewFile(name, data, media_type)], turn.conversation_id)[0]


@pytest.fixture
def turn(alice: User, demo: Agent) -> Turn:
    turn = actions.send(alice, demo, "Make files")
    hold(turn.task)
    return turn


def page(client: Client, turn: Turn) -> Any:
    return soup(client.get(turn.conversation.get_absolute_url()))


def test_what_was_made_is_shown_where_it_can_be_and_never_as_a_page(as_alice: Client, turn: Turn) -> None:
    keep(turn, "cities.csv", b"city,people\nVienna,2\n<script>alert(1)</script>,3\n", "text/csv")
    keep(turn, "talk.wav", WAVE, "audio/wav")
    keep(turn, "film.mp4", b"\0\0\0 ftypisom", "video/mp4")
    keep(turn, "note.txt", b"Hello <b>there</b>", "text/plain")
    keep(turn, "page.html", b"<script>alert(1)</script>", "text/html")
    keep(turn, "drawing.svg", b"<svg onload='alert(1)'/>", "image/svg+xml")
    shown = page(as_alice, turn).select_one(f"#files-{turn.task_id}")
    assert [cell.get_text() for cell in shown.select(".table-start th, .table-start td")] == [
        *("city", "people", "Vienna", "2", "<script>alert(1)</script>", "3")
    ]
    assert shown.select_one("audio")["src"] == shown.select_one(".file-audio a")["href"].removesuffix("?download")
    assert shown.select_one("video") is not None
    assert [text.get_text() for text in shown.select(".text-start")] == [
        "Hello <b>there</b>",
        "<script>alert(1)</script>",
    ]
    assert "drawing.svg" in shown.select_one("a.file").get_text()
    assert shown.select("script, svg[onload], b") == []


def test_sound_is_sent_in_the_pieces_that_a_player_asks_for(as_alice: Client, turn: Turn) -> None:
    address = reverse("file", args=[keep(turn, "talk.wav", WAVE, "audio/wav").pk])
    piece = as_alice.get(address, headers={"Range": "bytes=8-11"})
    assert (piece.status_code, piece.content, piece["Content-Range"]) == (206, b"WAVE", f"bytes 8-11/{len(WAVE)}")
    assert piece["Content-Type"] == "audio/wav"
    assert as_alice.get(address, headers={"Range": "bytes=-4"}).content == WAVE[-4:]
    assert as_alice.get(address, headers={"Range": "bytes=100-"}).content == WAVE[100:]
    for beyond in ("bytes=5000-", "bytes=9-2", "bytes=-0"):
        assert as_alice.get(address, headers={"Range": beyond}).status_code == 416
    for whole in ("", "bytes=-", "bytes=0-1,5-6", "lines=1-2", f"bytes={'9' * 40}-"):
        assert as_alice.get(address, headers={"Range": whole}).content == WAVE


def test_a_file_of_the_same_name_is_a_newer_version_and_the_older_one_stays(as_alice: Client, turn: Turn) -> None:
    first = keep(turn, "data.csv", b"a\n1\n", "text/csv")
    second = keep(turn, "data.csv", b"a\n2\n", "text/csv")
    keep(turn, "Data.csv", b"a\n3\n", "text/csv")
    assert (first.version, second.version) == (1, 2)
    [_, line] = soup(as_alice.get(reverse("files", args=[turn.conversation_id]))).select(".gallery-list > li")
    assert [kept["id"] for kept in line.select(".kept")] == [f"kept-{second.pk}", f"kept-{first.pk}"]
    assert line.select_one(".older summary").get_text() == "1 older version"  # type: ignore[union-attr]
    assert line.select_one(".version").get_text() == "v2"  # type: ignore[union-attr]
    answer = as_alice.get(reverse("files_zip", args=[turn.conversation_id]))
    assert answer["Content-Disposition"] == 'attachment; filename="make-files.zip"'
    with zipfile.ZipFile(io.BytesIO(b"".join(answer))) as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name) for name in archive.namelist()}
    assert found == {"Data.csv": b"a\n3\n", "data (v2).csv": b"a\n2\n", "data (v1).csv": b"a\n1\n"}


def test_the_gallery_says_where_each_file_comes_from(as_alice: Client, alice: User, turn: Turn) -> None:
    sent = take_in(alice, turn.conversation_id, "mine.txt", [b"x"])
    assert attach([sent], turn.task_id, turn.conversation_id)
    keep(turn, "made.txt", b"x", "text/plain")
    shown = soup(as_alice.get(reverse("files", args=[turn.conversation_id])))
    facts = [" ".join(facts.get_text().split()) for facts in shown.select(".kept-facts .quiet")]
    assert [fact.partition(",")[0] for fact in facts] == ["Made by a function", "Sent by you"]
    assert "2 files of this conversation, 2\xa0bytes." in shown.select_one(".gallery-head").get_text()  # type: ignore[union-attr]


def test_an_empty_gallery_says_so(as_alice: Client, turn: Turn) -> None:
    response = as_alice.get(reverse("files", args=[turn.conversation_id]))
    assert "There are no files here yet." in response.content.decode()
    with zipfile.ZipFile(io.BytesIO(b"".join(as_alice.get(reverse("files_zip", args=[turn.conversation_id]))))) as none:
        assert none.namelist() == []


def test_a_deleted_file_is_nowhere(as_alice: Client, turn: Turn) -> None:
    file = keep(turn, "data.csv", b"a\n1\n", "text/csv")
    response = as_alice.post(reverse("delete_file", args=[file.pk]))
    assert response["Location"] == reverse("files", args=[turn.conversation_id])
    assert as_alice.get(reverse("file", args=[file.pk])).status_code == 404
    assert page(as_alice, turn).select_one(".table-start") is None


@pytest.mark.usefixtures("live")
async def test_who_looks_on_sees_what_came_with_words_and_what_is_deleted(scene: Scene) -> None:
    first = await scene.send("Hello")
    viewer = await scene.watch(first.conversation)
    await scene.is_quiet()

    def send_with_file() -> UUID:
        draft = take_in(scene.alice, first.conversation_id, "cities.csv", [b"a,b\n"])
        actions.send(scene.alice, scene.agent, "And this", first.conversation, files=[draft])
        return draft.pk

    file = await db(send_with_file)
    await scene.is_quiet()
    assert "cities.csv" in viewer.page.text(".sent .file")
    await db(scene.client.post, reverse("delete_file", args=[file]))
    await scene.is_quiet()
    assert viewer.page.soup.select_one(".sent .file") is None
