"""Environment variables that stand for no option; the others are named with their options."""

VARIABLES = {
    "HOLDFAST_PASSWORD": "Password of the repository; else `RESTIC_PASSWORD`.",
    "HOLDFAST_REST_USERNAME": "User name for rest: repositories; else "
    "`RESTIC_REST_USERNAME`, or what the address says.",
    "HOLDFAST_REST_PASSWORD": "Password for it; else `RESTIC_REST_PASSWORD`.",
    "HOLDFAST_RESTBACKUP_URL": "Access url for `holdfast restbackup`.",
    "HOLDFAST_RESTBACKUP_PASSPHRASE": "Passphrase for it, where none is named.",
    "AWS_ACCESS_KEY_ID": "Key for s3: repositories.",
    "AWS_SECRET_ACCESS_KEY": "Secret for it.",
    "AWS_SESSION_TOKEN": "Token of a temporary key.",
    "AWS_DEFAULT_REGION": "Region of the bucket.",
    "XDG_CACHE_HOME": "Where caches lie; ours is the folder `holdfast` in it.",
    "HOLDFAST_LISTEN_HOSTS": "listen.hosts of a server's configuration: names it answers to.",
    "HOLDFAST_DATABASE_URL": "database.url of a server's configuration: where its catalog is.",
    "HOLDFAST_LOG_CONFIG": "log.config of it: a file in the format of Python's `fileConfig`.",
    "HOLDFAST_LOG_DEBUG": "log.debug of it: true where more is to be logged.",
    "HOLDFAST_RUBACKUP_HOST": "rubackup.host of it: by which name that interface is reached.",
    "HOLDFAST_RUBACKUP_SERVER_ADDRESS": "rubackup.server_address of it: what people are told.",
    "HOLDFAST_AGENTS_OWN": "agents.own of it: no where `serve` runs no agent for this machine.",
    "HOLDFAST_TESTING": "Where 1, `python -m holdfast.testing` may change when backups were made; "
    "for tests only.",
    "HOLDFAST_DEBUG": "Where set, a mistake in Holdfast itself also prints where it happened.",
}
