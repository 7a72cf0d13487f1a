"""Files that people send: into the composer, with a message, to the model, and back."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from io import BytesIO
from typing import Any
from urllib.parse import quote

import pytest
from django.apps import apps
from django.core.files.storage import default_storage
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from conversations import actions, branches
from conversations.models import Conversation, Turn
from conversations.present import task_views
from executor import queue
from executor.actions import NotNow
from executor.core.messages import File, Message
from executor.models import Agent
from executor.told import transcript
from tests.conversations.test_pages import HTMX, soup
from tests.conversations.worker import answer, hold
from tools.models import FOLDER, Resource
from users.models import User

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
CSV = b"city,people\nVienna,2000000\nGraz,300000\n"

Upload = Callable[..., HttpResponse]


@pytest.fixture(autouse=True)
def memory(settings: Any) -> None:
    """Another storage than that of files, as S3 would be."""
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    }


@pytest.fixture
def upload(as_alice: Client) -> Upload:
    def upload(name: str, body: bytes, at: Conversation | None = None, client: Client = as_alice) -> Any:
        address = reverse("upload", args=[at.pk]) if at else reverse("upload_new")
        return client.post(f"{address}?name={quote(name)}", body, content_type="application/octet-stream")

    return upload


@pytest.fixture
def demo_turn(alice: User, demo: Agent) -> Turn:
    turn = actions.send(alice, demo, "Hello")
    answer(turn.task, "Good morning.")
    return turn


def told(turn: Turn) -> Message:
    """What the model is told of the turn's words."""
    return transcript(turn.task, "")[-1]


def test_an_upload_is_a_draft_that_a_fresh_page_shows_until_it_is_sent(
    as_alice: Client, upload: Upload, demo: Agent
) -> None:
    chip = soup(upload("cities.csv", CSV))
    draft = Resource.objects.get()
    assert draft.is_draft
    assert (draft.name, draft.media_type, draft.size) == ("cities.csv", "text/csv", len(CSV))
    shown = soup(as_alice.get(reverse("home"))).select_one("#chips .chip")
    assert shown is not None
    assert shown["id"] == chip.select_one(".chip")["id"] == f"chip-{draft.pk}"  # type: ignore[index]
    as_alice.post(reverse("send_new"), {"text": "How many?", "agent": "demo", "file": str(draft.pk)})
    turn = Turn.objects.get()
    draft.refresh_from_db()
    assert (draft.task_id, draft.thread, draft.version) == (turn.task_id, turn.conversation_id, 1)
    assert soup(as_alice.get(reverse("home"))).select_one(".chip") is None
    page = soup(as_alice.get(turn.conversation.get_absolute_url()))
    assert page.select_one(".chip") is None
    assert "cities.csv" in page.select_one(f"#turn-{turn.pk} .sent").get_text()  # type: ignore[union-attr]


def test_what_is_uploaded_in_one_conversation_is_not_attached_in_another(
    as_alice: Client, upload: Upload, alice: User, demo: Agent
) -> None:
    first, second = (actions.send(alice, demo, "Hello").conversation for _ in range(2))
    upload("cities.csv", CSV, first)
    file = str(Resource.objects.get().pk)
    sent = as_alice.post(reverse("send", args=[second.pk]), {"text": "Hi", "agent": "demo", "file": file}, **HTMX)
    assert sent.status_code == 422
    assert "not attached any more" in sent.content.decode()
    assert f"#chip-{file}" in sent.content.decode()
    assert second.turns.count() == 1
    assert soup(as_alice.get(second.get_absolute_url())).select_one(".chip") is None


def test_a_second_file_of_the_same_name_is_its_next_version(
    upload: Upload, alice: User, demo_turn: Turn, demo: Agent
) -> None:
    for version in (1, 2):
        upload("cities.csv", CSV, demo_turn.conversation)
        files = list(Resource.objects.filter(task_id=None))
        actions.send(alice, demo, "And this?", demo_turn.conversation, files=files)
        assert Resource.objects.get(pk=files[0].pk).version == version


def test_nobody_sends_or_removes_the_file_of_somebody_else(
    as_alice: Client, as_bob: Client, upload: Upload, demo: Agent
) -> None:
    upload("cities.csv", CSV)
    file = Resource.objects.get()
    sent = as_bob.post(reverse("send_new"), {"text": "Mine", "agent": "demo", "file": str(file.pk)})
    assert sent.status_code == 422
    assert as_bob.post(reverse("delete_file", args=[file.pk])).status_code == 404
    file.refresh_from_db()
    assert file.is_draft


@pytest.mark.parametrize("junk", ["", "x", "\0", "1e5", "0190a0c4-7f6c-7cc3-98c4-dc0c0c07398f"])
def test_what_is_no_file_is_refused_with_a_sentence(as_alice: Client, demo: Agent, junk: str) -> None:
    sent = as_alice.post(reverse("send_new"), {"text": "Hi", "agent": "demo", "file": junk})
    assert sent.status_code == 422
    assert "not attached any more" in sent.content.decode()
    assert not Turn.objects.exists()


def test_a_draft_goes_with_one_message_only(alice: User, as_alice: Client, upload: Upload, demo: Agent) -> None:
    upload("cities.csv", CSV)
    files = list(Resource.objects.all())
    actions.send(alice, demo, "One", files=files)
    with pytest.raises(NotNow, match="not attached any more"):
        actions.send(alice, demo, "Two", files=files)
    assert Turn.objects.count() == Conversation.objects.count() == 1


def test_a_removed_draft_is_gone_with_its_bytes(
    as_alice: Client, upload: Upload, django_capture_on_commit_callbacks: Any
) -> None:
    upload("cities.csv", CSV)
    file = Resource.objects.get()
    assert default_storage.exists(str(file.file.name))
    with django_capture_on_commit_callbacks(execute=True):
        assert as_alice.post(reverse("delete_file", args=[file.pk]), **HTMX).status_code == 200
    assert not Resource.objects.exists()
    assert not default_storage.exists(str(file.file.name))


# --- what is refused -------------------------------------------------------------------------------------------------


def test_the_size_is_counted_as_it_comes_whatever_the_header_says(
    as_alice: Client, upload: Upload, settings: Any
) -> None:
    settings.UPLOAD_MB = 1
    refused = upload("large.csv", b"a" * (1024**2 + 1))
    assert refused.status_code == 422
    assert refused.content.decode() == "“large.csv” is larger than 1 MB, the most that can be sent."
    assert upload("fits.csv", b"a" * 1024**2).status_code == 200
    assert [file.name for file in Resource.objects.all()] == ["fits.csv"]


@pytest.mark.parametrize(
    ("name", "body", "sentence"),
    [
        ("program.png", b"\x7fELF\x02\x01\x01\x00\x00", "“program.png” is of a kind that cannot be used here."),
        ("empty.csv", b"", "“empty.csv” is empty."),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_content(upload: Upload, name: str, body: bytes, sentence: str) -> None:
    refused = upload(name, body)
    assert refused.status_code == 422
    assert refused.content.decode().startswith(sentence)
    assert not Resource.objects.exists()
    assert default_storage.listdir("")[1] == []


def test_a_person_keeps_no_more_than_their_quota(upload: Upload, alice: User, settings: Any) -> None:
    settings.FILES_MB = 1
    assert upload("a.txt", b"a" * 700_000).status_code == 200
    refused = upload("b.txt", b"b" * 700_000)
    assert refused.status_code == 422
    assert refused.content.decode().startswith("Your files take as much as they may, 1 MB. Delete some")
    alice.max_files_mb = 2
    alice.save(update_fields=["max_files_mb"])
    assert upload("b.txt", b"b" * 700_000).status_code == 200


def test_a_message_brings_ten_files_at_the_most(upload: Upload) -> None:
    for number in range(10):
        assert upload(f"{number}.txt", b"x").status_code == 200
    assert upload("11.txt", b"x").content.decode().startswith("A message can bring 10 files.")


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b\\c\u202e\0.txt", "", "." * 300])
def test_hostile_names_are_cleaned(upload: Upload, name: str) -> None:
    assert upload(name, b"x").status_code == 200
    kept = Resource.objects.get()
    assert kept.name
    assert len(kept.name) <= 120
    assert not set(kept.name) & set("/\\\u202e\0")
    assert str(kept.file.name).startswith(f"{FOLDER}/")


def test_a_page_is_text_and_never_shown_as_a_page(upload: Upload, as_alice: Client) -> None:
    upload("page.html", b"<!doctype html><script>alert(1)</script>")
    upload("image.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    for file in Resource.objects.all():
        assert file.media_type == "text/plain"
        response = as_alice.get(reverse("file", args=[file.pk]))
        assert response["Content-Type"] == "application/octet-stream"
        assert response["Content-Disposition"].startswith("attachment")
        assert response["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in response["Content-Security-Policy"]


def test_a_form_without_scripts_uploads_too(as_alice: Client, alice: User, demo: Agent) -> None:
    files = [BytesIO(CSV), BytesIO(b"\x7fELF\x00")]
    files[0].name, files[1].name = "cities.csv", "program"
    page = soup(as_alice.post(reverse("upload_new"), {"upload": files}, follow=True))
    assert [chip.get_text(" ", strip=True).split()[0] for chip in page.select(".chip")] == ["cities.csv"]
    assert "“program” is of a kind that cannot be used here." in page.get_text()


# --- what the model is told ------------------------------------------------------------------------------------------


def test_the_message_refers_to_its_files_and_the_model_is_told_their_names(
    upload: Upload, alice: User, demo: Agent
) -> None:
    upload("cities.csv", CSV)
    turn = actions.send(alice, demo, "How many?", files=list(Resource.objects.all()))
    [_words, file] = told(turn).parts
    assert isinstance(file, File)
    assert (file.name, file.media_type, file.text) == ("cities.csv", "text/csv", "")
    Resource.objects.update(told="120 bytes. A table")
    assert told(turn).parts[1].text == "120 bytes. A table"  # type: ignore[union-attr]
    Resource.objects.all().delete()
    assert told(turn).parts[1].text == "It was deleted since then."  # type: ignore[union-attr]


def test_an_edited_message_and_another_answer_keep_the_files(upload: Upload, alice: User, demo: Agent) -> None:
    upload("cities.csv", CSV)
    turn = actions.send(alice, demo, "How many?", files=list(Resource.objects.all()))
    answer(turn.task, "Two.")
    again = branches.regenerate(turn)
    answer(again.task, "Three.")
    edited = branches.edit(again, "How many, please?")
    views = task_views([turn.task, again.task, edited.task])
    assert [[file.name for file in view.sent] for view in views.values()] == [["cities.csv"]] * 3


def test_a_message_with_files_waits_for_its_turn_and_gives_them_back_when_it_is_taken_back(
    as_alice: Client, upload: Upload, alice: User, demo: Agent, django_capture_on_commit_callbacks: Any
) -> None:
    first = actions.send(alice, demo, "Hello")
    hold(first.task)
    upload("cities.csv", CSV, first.conversation)
    waiting = actions.send(alice, demo, "Now this", first.conversation, files=list(Resource.objects.all()))
    assert not queue.steer(waiting.task)
    page = soup(as_alice.get(first.conversation.get_absolute_url()))
    assert [button.get_text() for button in page.select(f"#turn-{waiting.pk} .line-actions button")] == [
        "Edit",
        "Remove",
    ]
    taken = as_alice.post(f"{reverse('take_back', args=[waiting.task_id])}?edit", **HTMX)
    file = Resource.objects.get()
    assert file.is_draft
    assert f'id="chip-{file.pk}"' in taken.content.decode()
    again = actions.send(alice, demo, "Now this", first.conversation, files=[file])
    with django_capture_on_commit_callbacks(execute=True):
        as_alice.post(reverse("take_back", args=[again.task_id]), **HTMX)
    assert not Resource.objects.exists()


def test_files_go_with_their_conversation(
    upload: Upload,
    alice: User,
    demo_turn: Turn,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    upload("cities.csv", CSV, demo_turn.conversation)
    upload("stays.csv", CSV)
    monkeypatch.setattr(actions, "BIN_DAYS", 0)
    actions.delete(demo_turn.conversation)
    with django_capture_on_commit_callbacks(execute=True):
        assert actions.empty_bin() == 1
    kept = Resource.objects.get()
    assert kept.name == "stays.csv"
    assert [
        f"{FOLDER}/{folder}/{name}"
        for folder in default_storage.listdir(FOLDER)[0]
        for name in default_storage.listdir(f"{FOLDER}/{folder}")[1]
    ] == [kept.file.name]


def test_an_export_names_the_files(as_alice: Client, upload: Upload, alice: User, demo: Agent) -> None:
    upload("cities.csv", CSV)
    turn = actions.send(alice, demo, "How many?", files=list(Resource.objects.all()))
    answer(turn.task, "Two.")
    export = as_alice.get(reverse("conversation_markdown", args=[turn.conversation_id]))
    assert "> How many?\n\nAttached: cities.csv" in b"".join(export).decode()


def test_files_from_before_learn_their_conversation(upload: Upload, alice: User, demo: Agent) -> None:
    upload("cities.csv", CSV)
    turn = actions.send(alice, demo, "How many?", files=list(Resource.objects.all()))
    Resource.objects.update(thread=None)
    import_module("conversations.migrations.0004_threads_of_files").tell(apps, None)
    assert Resource.objects.get().thread == turn.conversation_id


def test_an_upload_needs_a_token_against_forgery(alice: User, upload: Upload) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert upload("cities.csv", CSV, client=client).status_code == 403
    assert not Resource.objects.exists()
