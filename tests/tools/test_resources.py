"""Files that functions made: kept for their owner, shown to nobody else, and cleaned up."""

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from tools import resources
from tools.checks import check_storage
from tools.core.context import NewFile
from tools.models import FOLDER, Resource
from tools.serving import resource_response
from tools.uploads import take_in

pytestmark = pytest.mark.django_db

IMAGE = NewFile("chart.png", b"\x89PNG", "image/png", "A chart")


@pytest.fixture(autouse=True)
def media(tmp_path: Path, settings: Any) -> Path:
    settings.MEDIA_ROOT = tmp_path / "media"
    return tmp_path / "media"


@pytest.fixture
def living_tasks() -> Iterator[set[UUID]]:
    """The tasks that still exist, as the layer above would tell."""
    living: set[UUID] = set()

    def still_there(task_ids: Any) -> set[UUID]:
        return living & set(task_ids)

    before = list(resources.IN_USE)
    resources.IN_USE[:] = [still_there]
    yield living
    resources.IN_USE[:] = before


def keep(owner: Any, file: NewFile = IMAGE, days_old: int = 0) -> Resource:
    [resource] = resources.store(owner.pk, str(uuid4()), "call-1", [file])
    Resource.objects.filter(pk=resource.pk).update(created_at=timezone.now() - timedelta(days=days_old))
    return resource


def files(media: Path) -> list[Path]:
    return [path for path in media.rglob("*") if path.is_file()]


def age(path: Path, hours: float) -> None:
    then = time.time() - hours * 3600
    os.utime(path, (then, then))


def test_a_file_is_stored_with_what_is_known_of_it(alice: Any, media: Path) -> None:
    task = uuid4()
    [resource] = resources.store(alice.pk, task, "call-1", [IMAGE])
    resource.refresh_from_db()
    assert (resource.owner, resource.task_id, resource.call_id) == (alice, task, "call-1")
    assert (resource.name, resource.media_type, resource.size) == ("chart.png", "image/png", 4)
    assert resource.description == "A chart"
    assert resource.sha256.startswith("0f4636c78f65d363")
    assert resource.id.version == 7
    [path] = files(media)
    assert path.read_bytes() == b"\x89PNG"


def test_a_files_name_has_no_say_in_where_it_lies(alice: Any, media: Path) -> None:
    resource = keep(alice, NewFile("../../../evil.html", b"<script>", "text/html"))
    assert resource.name == "evil.html"
    [path] = files(media)
    assert "evil" not in str(path.relative_to(media))


def test_the_owner_gets_a_resource(alice: Any) -> None:
    resource = keep(alice)
    assert resources.get_resource(alice, resource.id) == resource
    assert resources.get_resource(alice, str(resource.id)) == resource


def test_what_is_absent_and_what_is_not_yours_look_the_same(alice: Any, charlie: Any) -> None:
    resource = keep(alice)
    attempts: list[tuple[Any, UUID | str]] = [
        (charlie, resource.id),
        (AnonymousUser(), resource.id),
        (alice, uuid4()),
        (alice, "not-an-id"),
        (alice, "\0"),
    ]
    for user, wanted in attempts:
        with pytest.raises(Resource.DoesNotExist):
            resources.get_resource(user, wanted)
    alice.is_active = False
    with pytest.raises(Resource.DoesNotExist):
        resources.get_resource(alice, resource.id)


@pytest.mark.parametrize("media_type", ["image/png", "image/jpeg", "image/gif", "image/webp"])
def test_an_image_may_be_shown_inline(alice: Any, media_type: str) -> None:
    response = resource_response(keep(alice, NewFile("a.png", b"x", media_type)), inline=True)
    assert response["Content-Type"] == media_type
    assert response["Content-Disposition"] == 'inline; filename="a.png"'
    assert response.content == b"x"


@pytest.mark.parametrize(
    "media_type", ["image/svg+xml", "text/html", "application/xhtml+xml", "application/pdf", "text/xml"]
)
def test_what_could_carry_script_is_only_ever_downloaded(alice: Any, media_type: str) -> None:
    response = resource_response(keep(alice, NewFile("a.svg", b"<svg/>", media_type)), inline=True)
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize("inline", [True, False])
def test_no_file_can_do_harm_in_a_browser(alice: Any, inline: bool) -> None:
    response = resource_response(keep(alice), inline=inline)
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert response["Cache-Control"].startswith("private")
    assert response["Content-Disposition"].startswith("inline" if inline else "attachment")


def test_a_hostile_name_cannot_break_out_of_its_header(alice: Any) -> None:
    name = 'a"; filename="b.exe\r\nSet-Cookie: c=d'
    response = resource_response(keep(alice, NewFile(name, b"", "image/png")))
    assert response["Content-Disposition"] == 'attachment; filename="a\\"; filename=\\"b.exeSet-Cookie: c=d"'


def test_a_file_that_has_gone_from_the_disk_does_not_exist(alice: Any, media: Path) -> None:
    resource = keep(alice)
    files(media)[0].unlink()
    with pytest.raises(Resource.DoesNotExist):
        resource_response(resource)


def test_old_resources_of_tasks_that_are_gone_are_cleaned(alice: Any, media: Path, living_tasks: set[UUID]) -> None:
    old, old_in_use, young = keep(alice, days_old=31), keep(alice, days_old=31), keep(alice, days_old=29)
    assert old_in_use.task_id
    living_tasks.add(old_in_use.task_id)
    assert resources.clean(dry_run=True) == resources.Cleaned(resources=1, orphans=0, bytes=4)
    assert Resource.objects.count() == len(files(media)) == 3
    assert resources.clean() == resources.Cleaned(resources=1, orphans=0, bytes=4)
    assert set(Resource.objects.all()) == {old_in_use, young}
    assert sorted(path.name for path in files(media)) == sorted(r.id.hex for r in (old_in_use, young))
    assert not Resource.objects.filter(pk=old.pk).exists()


def test_while_nobody_can_say_which_tasks_exist_no_resource_is_cleaned(alice: Any, living_tasks: set[UUID]) -> None:
    keep(alice, days_old=1000)
    resources.IN_USE.clear()
    assert resources.clean() == resources.Cleaned(0, 0, 0)
    assert Resource.objects.count() == 1


def test_a_file_of_a_transaction_that_was_rolled_back_is_cleaned_after_an_hour(alice: Any, media: Path) -> None:
    kept = keep(alice)
    age(files(media)[0], hours=2)
    with transaction.atomic():
        resources.store(alice.pk, uuid4(), "call-2", [IMAGE])
        transaction.set_rollback(True)
    [orphan] = [path for path in files(media) if path.name != kept.id.hex]
    age(orphan, hours=0.5)
    assert resources.clean().orphans == 0
    age(orphan, hours=2)
    assert resources.clean(dry_run=True).orphans == 1
    assert orphan.exists()
    assert resources.clean().orphans == 1
    assert [path.name for path in files(media)] == [kept.id.hex]


def test_files_that_are_not_ours_are_left_alone(media: Path) -> None:
    stranger = media / "uploads" / "x"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"")
    age(stranger, hours=100)
    resources.clean()
    assert stranger.exists()


def test_the_command_says_what_it_does(alice: Any, living_tasks: set[UUID], capsys: pytest.CaptureFixture[str]) -> None:
    keep(alice, days_old=31)
    call_command("clean_resources", "--dry-run")
    assert capsys.readouterr().out == "Would delete 1 resources and 0 files without one, 4 bytes.\n"
    call_command("clean_resources")
    assert capsys.readouterr().out == "Deleted 1 resources and 0 files without one, 4 bytes.\n"
    assert not Resource.objects.exists()


def test_drafts_that_were_never_sent_are_cleaned(alice: Any, media: Path, living_tasks: set[UUID]) -> None:
    old, young = (take_in(alice, None, f"{name}.txt", [b"x"]) for name in ("old", "young"))
    Resource.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=8))
    assert resources.clean() == resources.Cleaned(resources=1, orphans=0, bytes=1)
    assert Resource.objects.get() == young
    assert [path.name for path in files(media)] == [young.id.hex]


def test_any_storage_of_django_serves(alice: Any, settings: Any, media: Path, living_tasks: set[UUID]) -> None:
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    }
    resource = keep(alice, days_old=31)
    stray = default_storage.save(f"{FOLDER}/ab/stray", ContentFile(b"1234567"))
    default_storage._resolve(stray).modified_time = timezone.now() - timedelta(hours=2)  # type: ignore[attr-defined]
    assert resource_response(resource).content == b"\x89PNG"
    assert files(media) == []
    assert resources.clean() == resources.Cleaned(resources=1, orphans=1, bytes=11)
    assert not default_storage.exists(str(resource.file.name))
    assert not default_storage.exists(stray)


def test_a_storage_that_does_not_exist_is_told(settings: Any) -> None:
    assert check_storage() == []
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "storages.backends.s4.S4Storage"}}
    [warning] = check_storage()
    assert "Could not find backend 'storages.backends.s4.S4Storage'" in warning.msg


def test_who_keeps_as_much_as_they_may_is_told_what_was_not_kept(alice: Any, settings: Any) -> None:
    settings.FILES_MB = 1
    keep(alice, NewFile("large.bin", bytes(1024**2 - 100), "application/octet-stream"))
    new = [NewFile("a.txt", bytes(60), "text/plain"), NewFile("b.txt", bytes(60), "text/plain")]
    assert resources.fitting(alice, new) == (
        new[:1],
        "Not kept, as your files take as much as they may: b.txt.",
    )
    settings.FILES_MB = None
    assert resources.fitting(alice, new) == (new, "")
