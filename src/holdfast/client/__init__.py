"""For people's own programs: RestBackup accounts and their encrypted streams.

`BackupAccount` is the short way. `holdfast.client.restbackup` and `holdfast.client.chlorocrypt`
have the classes of RestBackup's own Python library, by their names, for programs written for it.
"""

from holdfast.client.account import BackupAccount, StoredFile

__all__ = ["BackupAccount", "StoredFile"]
