"""The REST API of RuBackup: a table of what there is, and one small renderer that reads it."""

from holdfast.web.dialects.rubackup.app import PATHS, app

__all__ = ["PATHS", "app"]
