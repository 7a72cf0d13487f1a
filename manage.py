#!/usr/bin/env python
"""The command line of AgentSite: `python manage.py help` lists what it can do."""

import argparse
import os
import sys

#: Commands that make no sense before there is a site, and may not begin one where nobody wants it.
OF_A_SITE = {
    *("ask", "doctor", "load_agents", "load_tasks", "rotate_keys", "clean_resources"),
    *("first_admin_link", "createsuperuser", "changepassword"),
}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentsite.settings")
    sys.argv[2:] = choose_data_folder(sys.argv[2:])
    refuse_without_site(sys.argv[1:])
    from django.core.management import execute_from_command_line

    load_settings()
    execute_from_command_line(sys.argv)


def choose_data_folder(arguments: list[str]) -> list[str]:
    """Take `--data FOLDER` out of any command's arguments: the settings are read from there before the command runs."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--data")
    chosen, rest = parser.parse_known_args(arguments)
    if chosen.data:
        os.environ["AGENTSITE_DATA"] = chosen.data
    return rest


def refuse_without_site(arguments: list[str]) -> None:
    """End with a sentence where a command looks for a site and finds none, before the settings make a data folder."""
    from agentsite import data

    command, options = next(iter(arguments), ""), arguments[1:]
    if command not in OF_A_SITE or {"-h", "--help"} & set(options):
        return
    folder = data.chosen()
    try:
        is_there = data.has_database(folder)
    except OSError as error:
        sys.exit(f"The data folder cannot be read: {error}. Choose another with AGENTSITE_DATA or --data.")
    if not is_there:
        sys.exit(
            f"There is no database in the data folder {folder}. Name the site's folder with --data FOLDER or "
            "AGENTSITE_DATA, or start a site there first with `manage.py up`."
        )


def load_settings() -> None:
    """Read the settings, and end with a sentence where they are wrong."""
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured

    try:
        settings.DEBUG  # noqa: B018  (reading one reads them all)
    except OSError as error:
        sys.exit(f"The data folder cannot be used: {error}. Choose another with AGENTSITE_DATA or --data.")
    except (ImproperlyConfigured, ValueError) as error:
        sys.exit(f"A setting is wrong: {error}. docs/operating.md lists them all.")


if __name__ == "__main__":
    main()
