"""What is done with API keys. Nobody else writes to their rows, and only `reveal` reads a secret.

What people must see of a key is on the row: `fingerprint`, `state`, `last_used_at`, `check_problem`.
"""

import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.views.decorators.debug import sensitive_variables

from users import vault
from users.models import ApiKey, KeyState, User
from users.vault import NeedsReentry

LONGEST = 4000  # Characters. Keys of today have up to some 200; signed tokens can have thousands.
SHOWABLE = 24  # Of a key this long, four characters are no help to who guesses the others.
TOUCH_EVERY = timedelta(minutes=1)
_NOT_KNOWN_TO_FAIL = (KeyState.READY, KeyState.UNTESTED)
ATTEMPTS = 50  # Each one that fails is somebody else's success.

#: Each gives providers that take keys, by name, and what people call them. Apps that ask providers add to it.
PROVIDERS: list[Callable[[], dict[str, str]]] = []
#: Each has a key tested, without waiting for the outcome. Apps that ask providers add to it.
TESTERS: list[Callable[[ApiKey], None]] = []


class KeyThere(ValueError):
    """There is a live key for this place, and nobody said that it may be replaced."""

    def __init__(self, fingerprint: str) -> None:
        super().__init__(f"There is a key for this address already: {fingerprint}.")
        self.fingerprint = fingerprint


# --- entering --------------------------------------------------------------------------------------------------------


@sensitive_variables()
def add(
    owner: User | None,
    provider: str,
    secret: str,
    base_url: str = "",
    label: str = "",
    groups: Iterable[Group] = (),
    replace: bool = True,
    on_trial: bool = False,
) -> ApiKey:
    """Store a key of `owner` (None: the site's, for the members of `groups`, or for everybody if there are none).

    It takes the place of the live key for the same provider and address, which is revoked; without `replace`, that
    one stays. With `on_trial`, one that is not known to have failed stays in use until the new one has passed its test.

    Raises:
        KeyThere: Without `replace`, if there is one.
        ValueError: Key, address, provider, label or groups will not do; the text is a sentence for the person.
        KeyringError: The site's keyring is missing or wrong.
    """
    secret, groups = tidy(secret), list(groups)
    if problem := looks_like_a_key(secret):
        raise ValueError(problem)
    if owner and groups:
        raise ValueError("Only the site's keys can be shared with groups.")
    key = ApiKey(owner=owner, provider=provider, base_url=address(base_url), label=label, restricted=bool(groups))
    try:
        key.clean_fields(exclude={"owner", "secret", "fingerprint"})
    except ValidationError as error:
        raise ValueError(" ".join(error.messages)) from None
    key.fingerprint = fingerprint(secret)
    key.secret = vault.encrypt(key.owner_id, secret, key.place)
    for left in reversed(range(ATTEMPTS)):
        try:
            with transaction.atomic():
                before = live() & _at(key)
                if not replace and (there := before.first()):
                    raise KeyThere(there.fingerprint)
                key.on_trial = on_trial and any(other.state in _NOT_KNOWN_TO_FAIL for other in before)
                _revoke(_at(key).filter(on_trial=True) if key.on_trial else _at(key))
                key.save(force_insert=True)
                key.groups.set(groups)
            return key
        except IntegrityError:  # Somebody stored one for the same place in between: that one is replaced, then.
            if not left:
                raise
            key.pk = None
    raise AssertionError


@sensitive_variables()
def share(key: ApiKey) -> ApiKey:
    """Store a person's key as the site's, too: for the same place, and for everybody. Theirs stays.

    Raises:
        KeyThere: The site has one for this place.
        NeedsReentry: It cannot be decrypted.
        KeyringError: The site's keyring is missing or wrong.
    """
    return add(None, key.provider, reveal(key), key.base_url, replace=False)


@sensitive_variables()
def tidy(text: str) -> str:
    """What was pasted, without white space around it, quotes, and the "Bearer " of a header."""
    text = re.sub(r"^(authorization:\s*)?bearer(\s+|$)", "", text.strip(), flags=re.IGNORECASE)
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`" else text


@sensitive_variables()
def looks_like_a_key(text: str) -> str:
    """Why `text` cannot be a key, as a sentence that repeats nothing of it; "" if it can."""
    text = tidy(text)
    if not text:
        return "Enter the key."
    if len(text) > LONGEST:
        return f"This is too long for a key: it has more than {LONGEST:,} characters."
    if re.match(r"[A-Za-z_][A-Za-z0-9_]*_(KEY|TOKEN)\s*=", text):
        return "Enter only the key itself, without the name and the “=” before it."
    if "…" in text or "..." in text or "***" in text or "•" in text:
        return "This is a key as it is displayed, with a part left out. Copy the whole key, or make a new one."
    if any(char.isspace() for char in text):
        return "A key has no spaces or line breaks within. Copy it again, and nothing else."
    if not (text.isascii() and text.isprintable()):
        return "A key has only plain letters, digits and signs. Copy it again, and nothing else."
    if any(quote in text for quote in "\"'`"):
        return "A key has no quotation marks. Copy it again, and nothing else."
    if "://" in text:
        return "This is an address. Enter the key here."
    return ""


def address(text: str) -> str:
    """A base URL in the one form in which it is stored and compared; "" is the provider's own.

    Raises:
        ValueError: It is none; the text is a sentence.
    """
    text = text.strip()
    try:
        parts = urlsplit(text)
        odd = any(char.isspace() or not char.isprintable() or char in "\\@?#" for char in text)
        wrong = odd or parts.scheme not in ("http", "https") or not parts.hostname or (parts.port == 0)
    except ValueError:
        wrong = True
    if text and wrong:
        raise ValueError("The address must look like https://host/v1, without user name, password, “?” or “#”.")
    return urlunsplit((parts.scheme, parts.netloc.lower(), parts.path.rstrip("/"), "", "")) if text else ""


@sensitive_variables()
def fingerprint(secret: str) -> str:
    """The last four characters, or of a short key a hash that cannot be guessed without the site's own secret."""
    if len(secret) >= SHOWABLE:
        return f"…{secret[-4:]}"
    return f"#{salted_hmac('users.api_keys.fingerprint', secret, algorithm='sha256').hexdigest()[:6]}"


# --- taking away -----------------------------------------------------------------------------------------------------


def revoke(key: ApiKey) -> bool:
    """Wipe the secret; the row stays. One on trial at its place is in use then. False if it was revoked already."""
    with transaction.atomic():
        done = bool(_revoke(ApiKey.objects.filter(pk=key.pk, revoked_at=None)))
        if not (live() & _at(key)).exists():
            _at(key).update(on_trial=False)
    key.refresh_from_db()
    return done


def _revoke(keys: QuerySet[ApiKey]) -> int:
    return keys.update(secret="", broken=False, revoked_at=Now(), changed_at=Now())


# --- trying ----------------------------------------------------------------------------------------------------------


def end_trial(key: ApiKey) -> None:
    """After its test: the key takes the place of the one in use, or is wiped, and that one's note says why."""
    with transaction.atomic():
        mine = _at(key).filter(pk=key.pk, on_trial=True)
        if key.check_problem and _revoke(mine):
            note = f"This key is still used. The new one, {key.fingerprint}, is not: {key.check_problem}"
            (live() & _at(key)).update(check_note=note[:300])
        elif not key.check_problem and mine.exists():
            _revoke(live() & _at(key))
            mine.update(on_trial=False)
    key.refresh_from_db()


def trials() -> QuerySet[ApiKey]:
    """Keys that are not in use before their test."""
    return ApiKey.objects.filter(revoked_at=None, on_trial=True)


def _at(key: ApiKey) -> QuerySet[ApiKey]:
    """Those of its owner for its place that are not revoked."""
    return ApiKey.objects.filter(owner=key.owner_id, provider=key.provider, base_url=key.base_url, revoked_at=None)


# --- using -----------------------------------------------------------------------------------------------------------


def live() -> QuerySet[ApiKey]:
    """Keys that are in use: not revoked, and not on trial."""
    return ApiKey.objects.filter(revoked_at=None, on_trial=False)


def find(user: User, provider: str, base_url: str = "") -> ApiKey | None:
    """The key that `user` uses there: their own, else the site's if it is for them. None for who is suspended.

    Their own is returned in whatever state: to pass over one that needs re-entry would spend somebody else's money.
    """
    try:
        base_url = address(base_url)
    except ValueError:
        return None
    found = _usable(user).filter(provider=provider, base_url=base_url)
    return found.order_by(F("owner").asc(nulls_last=True)).first()


def places(user: User) -> set[tuple[str, str]]:
    """Provider and address of every key that `find` gives `user`, in one query."""
    return set(_usable(user).values_list("provider", "base_url"))


def _usable(user: User) -> QuerySet[ApiKey]:
    if not user.is_active:
        return ApiKey.objects.none()
    for_them = Q(restricted=False) | Q(groups__in=user.groups.all())
    return live().filter(Q(owner=user) | Q(owner=None) & for_them)


@sensitive_variables()
def reveal(key: ApiKey) -> str:
    """The secret, for a worker that is about to send it to `key.base_url` and keeps it nowhere.

    Raises:
        NeedsReentry: It cannot be decrypted, or was revoked. The key's state says so from now on.
        KeyringError: The site's keyring is missing or wrong, which is the administrator's matter.
    """
    if key.revoked_at:
        raise NeedsReentry("This key was revoked. Enter another.")
    try:
        secret = vault.decrypt(key.owner_id, key.secret, key.place)
    except NeedsReentry:
        if vault.knows(key.secret):  # Else it is the keyring that lacks something, and may have it again.
            _mark(key, broken=True)
        raise
    if key.broken:
        _mark(key, broken=False)
    return secret


def _mark(key: ApiKey, *, broken: bool) -> None:
    # Only if it is still the secret that was looked at.
    ApiKey.objects.filter(pk=key.pk, secret=key.secret).update(broken=broken)
    key.broken = broken


def touch(key: ApiKey) -> None:
    """Note that it is being used: one write a minute at most."""
    if key.last_used_at and timezone.now() - key.last_used_at < TOUCH_EVERY:
        return
    unused = Q(last_used_at=None) | Q(last_used_at__lt=Now() - TOUCH_EVERY)
    ApiKey.objects.filter(unused, pk=key.pk).update(last_used_at=Now())
    key.last_used_at = timezone.now()


def have_tested(key: ApiKey) -> None:
    """Have it tried out; its row says how that went. One on trial is in use then, or gone."""
    for test in TESTERS:
        test(key)


def ask_check(key: ApiKey) -> None:
    """Note that somebody wants to know whether it works; `awaits_check` until `record_check`."""
    ApiKey.objects.filter(pk=key.pk).update(check_asked_at=Now())
    key.refresh_from_db(fields=["check_asked_at"])


def record_check(key: ApiKey, problem: str, note: str = "") -> None:
    """Note how its test went. `problem` is a sentence in which the key is blotted out; "" if it worked."""
    key.check_problem, key.check_note = problem[:300], note[:300]
    found = {"check_problem": key.check_problem, "check_note": key.check_note}
    ApiKey.objects.filter(pk=key.pk).update(**found, checked_at=Now())
    key.refresh_from_db(fields=["checked_at"])
