"""Nouns that are part of the program: lists of words that other nouns choose from."""

from __future__ import annotations

from holdfast.core.access import Verb
from holdfast.core.fields import Field, Kind
from holdfast.service.nouns.describing import Noun, rows_of


def dictionary(name: str, *words: str) -> Noun:
    """For everybody who may see anything but themselves."""
    return Noun(
        name=name,
        source=rows_of(*({"name": word} for word in words), name="words"),
        sees=Verb.SETTING_READ,
        fields=(Field(name="name", read_only=True),),
    )


BACKUP_TYPE = dictionary("backup type", "full", "incremental", "differential")
COMPRESSION_TYPE = dictionary("compression type", "None", "fast", "best")
CRYPTO = dictionary("crypto", "nocrypt", "aes256")
HASH_ALGORITHM = dictionary("hash algorithm", "sha2")
POOL_TYPE = dictionary(
    "destination storage type", "File system", "Block device", "Cloud", "Client defined"
)
OS_TYPE = dictionary("OS type", "Linux", "Windows", "macOS", "FreeBSD")
VERIFICATION_STATUS = dictionary("verification status", "Not verified", "Verified", "Error")
TASK_STATUS = dictionary(
    "task status", "New", "Assigned", "Execution", "Transmission", "Paused", "Suspended", "Done",
    "Error", "Broken", "Killed",
)  # fmt: skip
LICENSE = "Community"
"""The one there is, of every server."""
LICENSE_TYPE = dictionary("license type", LICENSE)
_ABILITIES = ("granular", "incremental", "differential")
RESOURCE_TYPE = Noun(
    name="resource type",
    source=rows_of(
        *(
            {"name": name, "granular": granular, "incremental": True, "differential": True}
            for name, granular in (
                ("File system", True),
                ("PostgreSQL universal", False),
                ("MySQL/MariaDB", False),
                ("SQLite", False),
                ("LVM logical volume", False),
                ("Block device", False),
                ("Command output", False),
                ("REST API", False),
            )
        ),
        name="resource_types",
    ),
    sees=Verb.SETTING_READ,
    fields=(
        Field(name="name", read_only=True),
        *(Field(name=each, kind=Kind.FLAG, read_only=True) for each in _ABILITIES),
    ),
)
