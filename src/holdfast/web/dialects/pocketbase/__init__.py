"""The backups API of PocketBase and BosBase, for their SDKs: sign-in, file tokens, backups of the
application and of this server, settings, schedule, health.
"""

from holdfast.web.dialects.pocketbase.app import PATHS, app

__all__ = ["PATHS", "app"]
