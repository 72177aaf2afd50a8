"""What tests from outside need of a server that runs, and nobody else may do:

    HOLDFAST_TESTING=1 python -m holdfast.testing age-backup --data DIR BACKUP_ID DAYS
    HOLDFAST_TESTING=1 python -m holdfast.testing expire-session --data DIR URL

BACKUP_ID is a backup's id as faces show it, or its name. DAYS may be a fraction.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from holdfast.cli.data import ground_of
from holdfast.cli.output import report_error
from holdfast.core.errors import HoldfastError, UsageError
from holdfast.testing.aging import age_backup, expire_session

_VARIABLE = "HOLDFAST_TESTING"


def main() -> int:
    options = _parser().parse_args()
    try:
        if os.environ.get(_VARIABLE) != "1":
            raise UsageError(
                "this makes backups older than they are, and is for tests",
                remedy=f"Nothing was changed. Set {_VARIABLE}=1 where that is wanted.",
            )
        with ground_of(options.data, options.config) as ground:
            if options.verb == "age-backup":
                row = age_backup(ground, options.backup, options.days)
                sys.stdout.write(f"{row.uid} is {options.days:g} days older\n")
            else:
                expire_session(ground, options.url)
                sys.stdout.write("the session is over\n")
    except HoldfastError as error:
        report_error(error, json=False)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m holdfast.testing")
    verbs = parser.add_subparsers(dest="verb", required=True)
    age = verbs.add_parser("age-backup", help="a backup was received and made earlier")
    expire = verbs.add_parser("expire-session", help="a RestBackup session is over")
    for verb in (age, expire):
        verb.add_argument("--data", type=Path, required=True, metavar="DIR")
        verb.add_argument("--config", type=Path, metavar="FILE")
    age.add_argument("backup", metavar="BACKUP_ID")
    age.add_argument("days", type=float, metavar="DAYS")
    expire.add_argument("url", metavar="URL")
    return parser


if __name__ == "__main__":
    sys.exit(main())
