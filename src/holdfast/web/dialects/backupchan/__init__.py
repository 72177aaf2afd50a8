"""Backup-chan's JSON API, version 2.9, for its client library, its command line and curl.

Every answer is JSON with `success`, refusals too. Where the document and the clients differ both
are served; `docs/faces/backup-chan.md` says where this server does better than the original.
"""

from holdfast.web.dialects.backupchan.app import PATHS, app

__all__ = ["PATHS", "app"]
