"""The JSON objects of the verbs about targets, plans, tasks, hosts and the catalog."""

from holdfast.cli.message_kinds import message

_TARGET = """
    id text its id
    name text its name
    alias text? another name, unique
    face text who made it: holdfast, backupchan, restbackup, application, restic or rubackup
    shape text single: a backup is one file; multi: several
    pool text where its backups are kept
    host text? whose it is
    location text as a face gave it
    template text? file names of its backups
    tags list tags
    deduplicate flag whether of equal backups only the newest stays
    keep object criteria (count, age or none), value, action, min_backups
    source object what plans back up: paths and excludes, a command, an api, or a module
    created text when it was added, RFC 3339
    proven text? when a backup of it was last restored and compared
    backups integer how many it has
    recycled integer how many of it are in the recycle bin
    size integer bytes of content of its backups
"""
_BACKUP = """
    id text its id
    name text its name
    created text when it was taken, RFC 3339
    size integer bytes of content
    files integer how many
    sha256 text digest of the content; empty where it was not made
    state text kept or recycled
    manual flag whether somebody asked for it
    damaged text what a verification found; empty where nothing
"""
_PLAN = """
    id text its id
    name text its name
    kind text what it does
    target text? for which one
    pool text? in which one
    cron text five fields; empty where `every` says
    every integer seconds; 0 where `cron` says
    zone text whose clock `cron` means
    enabled flag whether it is on
    priority integer of its tasks
    next text? when it is due, RFC 3339
    last text? when it was due last
"""
_TASK = """
    id integer its number
    kind text what it does
    state text queued, running, paused, succeeded, partial, failed or cancelled
    priority integer 1 is first
    actor text who asked for it
    target text? for which one
    pool text? in which one
    backup text? id of the one that it is about
    created text when it was queued, RFC 3339
    started text? when it began
    ended text? when it ended
    attempt integer how often it was begun
    progress object done, total, unit, rate, eta, current
    outcome object message, code, remedy, and what the kind reports
"""
_HOST = """
    name text its name
    note text what people should know of it
    created text when it was added, RFC 3339
    seen text? when it came last
"""
_TOKENS = """
    tokens list its tokens: id, name, created, expires and used of each
"""
_GIVEN_OUT = """
    id text its id
    name text what it is called in lists
    created text when it was made, RFC 3339
    expires text? when it ends
    used text? when it was used last
    host text whose it is
    secret text the password
"""

_AGENT = """
id number its number
hwid text its own, 16 hexadecimal digits
name text what it calls itself
state text waiting or authorised
address text from where it came last
os text its operating system
version text its Holdfast
modules list what it can back up
seen text? when it was there last, RFC 3339
"""
SERVER = (
    message("target add", "target", "one", _TARGET),
    message("target list", "target", "for each target", _TARGET),
    message("target show", "target", "one", _TARGET),
    message("target show", "backup", "for each of the newest", _BACKUP),
    message("target change", "target", "one", _TARGET),
    message("target remove", "removed", "one", "name text of which"),
    message("target backup", "backup", "one, where files are named", _BACKUP),
    message("target backup", "task", "one, where none are", _TASK),
    message("plan add", "plan", "one", _PLAN),
    message("plan list", "plan", "for each plan", _PLAN),
    message("plan change", "plan", "one", _PLAN),
    message("plan remove", "removed", "one", "name text of which"),
    message("task list", "task", "for each task", _TASK),
    message("task show", "task", "one", _TASK),
    message("task pause", "task", "one", _TASK),
    message("task continue", "task", "one", _TASK),
    message("task kill", "task", "one", _TASK),
    message("task restart", "task", "one", _TASK),
    message("task run", "task", "one; with --wait, as it ended", _TASK),
    message(
        "task log",
        "line",
        "for each line",
        """
        time text when it was said, RFC 3339
        level text info, warning or error
        text text what was said
        """,
    ),
    message("agent list", "agent", "for each agent", _AGENT + "online flag whether it is there"),
    message("agent authorise", "agent", "one", _AGENT),
    message("agent withdraw", "agent", "one", _AGENT),
    message("host add", "host", "one", _HOST),
    message("host list", "host", "for each host", _HOST + _TOKENS),
    message("host show", "host", "one", _HOST + _TOKENS),
    message("host token", "token", "one; its secret is told this once", _GIVEN_OUT),
    message("host revoke", "removed", "one", "name text id of the token"),
    message("host remove", "removed", "one", "name text of which"),
    message(
        "catalog rebuild",
        "missing",
        "for each backup of the copy that is not in its pool any more",
        """
        name text its name
        id text its id
        """,
    ),
    message("catalog rebuild", "problem", "for each", "message text what could not be read"),
    message(
        "catalog rebuild",
        "summary",
        "at the end",
        """
        anew flag whether the catalog was gone or damaged
        base text what it began from; empty where from nothing
        set_aside list where the files of before lie now
        recorded integer backups that were not known
        seconds number so long it took
        pools integer that there are now
        hosts integer that there are now
        targets integer that there are now
        backups integer that there are now
        users integer that there are now
        """,
    ),
    message(
        "catalog backup",
        "copy",
        "one",
        """
        path text the file
        form text db, dump (for pg_restore) or json
        size integer bytes
        note text why it does not hold everything; empty where it does
        """,
    ),
    message("catalog check", "problem", "for each", "message text what is wrong"),
    message(
        "catalog check",
        "summary",
        "at the end",
        """
        num_errors integer how many things are wrong
        audit_records integer how many there are
        audit_digest text of the newest record; empty where there is none
        """,
    ),
    message(
        "catalog audit",
        "",
        "for each record",
        """
        id integer its number
        at integer when, nanoseconds since 1970
        actor text who
        address text where from; empty for the shell and the server itself
        verb text what was done
        subject text to what
        outcome text allowed or denied
        detail object what else matters
        previous text digest of the record before
        digest text SHA-256 of all other fields
        """,
    ),
)
