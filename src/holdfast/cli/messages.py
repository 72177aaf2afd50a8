"""Every JSON object that a verb prints, field by field: the reference is made of this table, and
the tests hold
real output to it. A field's kind: text, number, integer, flag, list, object; `?` where it may be
missing or null.
"""

from holdfast.cli.message_kinds import Field, Message
from holdfast.cli.message_kinds import message as _message
from holdfast.cli.messages_server import SERVER

__all__ = ["MESSAGES", "Field", "Message"]

_SNAPSHOT = """
    time text when it was made, RFC 3339
    tree text name of its root tree
    paths list what was backed up
    hostname text? host
    username text? user
    uid integer? number of the user
    gid integer? number of the group
    parent text? the snapshot it was compared with
    excludes list? patterns that were left out
    tags list? tags
    original text? name of the snapshot that this one was copied or changed from
    program_version text? what made it
    summary object? counts of the backup
    id text its name
    short_id text the first eight digits of its name
"""
_NODE = """
    name text last part of the path
    type text file, dir, symlink, dev, chardev, fifo or socket
    path text where it lies in the snapshot; bytes that are not UTF-8 are replaced
    path_raw text? the exact path in base64, where it is not UTF-8
    uid integer number of the owner
    gid integer number of the group
    size integer? bytes, of files
    mode integer Go's file mode
    permissions text the same in letters
    mtime text when the content changed
    atime text when it was read
    ctime text when anything of it changed
    inode integer number in its file system
"""
_POOL = """
    name text its name
    kind text repository or plain
    note text what people should know of it
    reachable flag whether one of its places is there
    repositories integer how many are in it
    backups integer how many are in it, those in the recycle bin counted
    stored integer bytes that it takes, as measured last
    free integer? bytes left in all its places
    locations list places: address, reachable, problem, free and total bytes of each
"""
_USER = """
    id text 15 letters and digits
    name text to sign in with
    email text? to sign in with as well
    role text superuser, supervisor, administrator, maintainer, strategy_administrator or user
    disabled flag may not sign in
    created text when it was added, RFC 3339
"""
_ACCOUNT = """
    name text user name of its access URL
    label text what it was called when it was added
    keep_days integer so long files are kept
    created text when it was added, RFC 3339
"""
_STAGE = """
    seconds_elapsed integer since the start of the command
    seconds_remaining integer? at the rate so far
    percent_done number of this stage, 0 to 1
    stage text what is being done
    items_done integer of this stage
    total_items integer? of this stage
    bytes_done integer of this stage
    total_bytes integer? of this stage
"""
_PROBLEM = """
    error object `message`: what happened
    during text scan, open, read, xattr, changed or restore
    item text the path
"""

MESSAGES = (
    _message(
        "every",
        "exit_error",
        "last, on standard error, where the command failed",
        """
        code integer exit code
        message text what happened
        error text the stable code of the error, see errors.md
        remedy text what is safe and what to do
        """,
    ),
    _message("every", "note", "a remark that ends nothing", "message text the remark"),
    _message("every other", "status", "once a second while a long command runs", _STAGE),
    _message(
        "backup",
        "status",
        "once a second",
        """
        seconds_elapsed integer since the start
        seconds_remaining integer? at the rate so far
        percent_done number 0 to 1; 0 while the total is not known
        total_files integer? what there is to back up, once it is counted
        files_done integer so far
        total_bytes integer? what there is to back up, once it is counted
        bytes_done integer so far
        error_count integer problems so far
        current_files list what is being looked at
        """,
    ),
    _message(
        "backup",
        "verbose_status",
        "for each file and folder, with -vv",
        """
        action text new, modified or unchanged
        item text the path
        data_size integer bytes of content
        """,
    ),
    _message("backup", "error", "for each thing that could not be read as it is", _PROBLEM),
    _message(
        "backup",
        "summary",
        "at the end",
        """
        dry_run flag? true for --dry-run
        files_new integer files that the parent does not have
        files_changed integer files that differ from the parent's
        files_unmodified integer files that are the parent's
        dirs_new integer the same of folders
        dirs_changed integer the same of folders
        dirs_unmodified integer the same of folders
        data_blobs integer new pieces of content
        tree_blobs integer new folder listings
        data_added integer bytes of both before compression
        data_added_packed integer bytes of both as stored
        total_files_processed integer files in the snapshot
        total_bytes_processed integer bytes in the snapshot
        total_duration number seconds
        backup_start text when it began
        backup_end text when it ended
        snapshot_id text? the new snapshot; missing where none was made
        outcome text succeeded or partial
        error_count integer problems
        """,
    ),
    _message(
        "restore",
        "status",
        "once a second",
        """
        seconds_elapsed integer since the start
        seconds_remaining integer? at the rate so far
        percent_done number 0 to 1
        total_files integer of the snapshot, 0 where it is not known
        files_restored integer so far, with those found right
        total_bytes integer of the snapshot, 0 where it is not known
        bytes_restored integer so far, with those found right
        """,
    ),
    _message(
        "restore",
        "verbose_status",
        "for each name, with -vv",
        """
        action text restored, updated, unchanged, skipped (--overwrite keeps it) or deleted
        item text the path
        size integer bytes of content
        """,
    ),
    _message("restore", "error", "for each thing that could not be restored", _PROBLEM),
    _message(
        "restore",
        "put_back",
        "at the end, with --into",
        """
        snapshot_id text name of the snapshot
        said text what the module has done
        """,
    ),
    _message(
        "restore",
        "summary",
        "at the end",
        """
        dry_run flag? true for --dry-run
        seconds_elapsed integer how long it took
        total_files integer all but folders
        files_restored integer written
        files_skipped integer found right
        files_deleted integer removed, with --delete
        total_bytes integer of content
        bytes_restored integer written
        bytes_skipped integer found right
        files_verified integer read again and compared, with --verify
        error_count integer what could not be restored
        outcome text succeeded or partial
        """,
    ),
    _message(
        "init",
        "initialized",
        "at the end",
        """
        id text the new repository
        repository text where it is
        """,
    ),
    _message(
        "snapshots",
        "",
        "a list of these; with --group-by a list of `group_key` and `snapshots`",
        _SNAPSHOT,
    ),
    _message("ls", "snapshot", "first", "    struct_type text snapshot\n" + _SNAPSHOT),
    _message("ls", "node", "for each entry", "    struct_type text node\n" + _NODE),
    _message(
        "find",
        "",
        "a list of these, one for each snapshot with hits",
        """
        matches list path, permissions, type, mode, times, uid, gid, user, group, size, links
        hits integer how many
        snapshot text where
        """,
    ),
    _message(
        "find --blob, --tree, --pack",
        "",
        "a list of these",
        """
        object_type text blob or tree
        id text its name
        path text the file or folder that it is part of
        parent_tree text? the tree that names it
        snapshot text where
        time text of the snapshot
        packs list? where it is stored, with --show-pack-id
        """,
    ),
    _message(
        "diff",
        "change",
        "for each difference",
        """
        path text ends in / for folders
        modifier text + - M T U or ?
        """,
    ),
    _message(
        "diff",
        "statistics",
        "at the end",
        """
        source_snapshot text the first
        target_snapshot text the second
        changed_files integer files of other content
        added object files, dirs, others, data_blobs, tree_blobs, bytes
        removed object files, dirs, others, data_blobs, tree_blobs, bytes
        """,
    ),
    _message(
        "forget",
        "",
        "a list of these, one for each group",
        """
        tags list? of the group
        host text of the group
        paths list? of the group
        keep list? snapshots that stay
        remove list? snapshots that go
        reasons list of each that stays: `snapshot`, `matches` (why), `counters` (what is left)
        """,
    ),
    _message(
        "prune",
        "prune_summary",
        "at the end, of `forget --prune`, too",
        """
        dry_run flag whether only told
        used object `blobs` and `bytes` that snapshots need
        duplicate object stored more than once
        unused object needed by nothing
        remove object that go with whole packs
        repack object that are moved
        repack_drop object that go when packs are moved
        packs_keep integer left as they are
        packs_repack integer to be moved
        packs_remove integer to be deleted
        packs_unreferenced integer in no index, left by interrupted runs
        packs_removed integer deleted in fact
        bytes_removed integer deleted in fact
        packs_added integer newly written
        packs_waiting integer that wait for their grace to end
        packs_rescued integer that waited and are needed again
        blobs_damaged integer that could not be moved; they stay where they are
        disk_full flag whether only what could go at once went
        """,
    ),
    _message(
        "check",
        "error",
        "for each thing that is damaged",
        """
        message text what it is
        kind text? keys, snapshots, index, data or locks
        id text name of the object
        hits list `path` and `snapshots` of all files that cannot be restored
        """,
    ),
    _message(
        "check",
        "note",
        "for each thing that is untidy",
        """
        message text what it is
        kind text? keys, snapshots, index, data or locks
        id text name of the object
        hits list empty
        """,
    ),
    _message(
        "check",
        "summary",
        "at the end",
        """
        num_errors integer damaged things
        broken_packs list? names of damaged packs
        suggest_repair_index flag whether `repair index` would help
        suggest_prune flag whether `prune` would tidy something up
        snapshots integer looked at
        trees integer looked at
        packs integer in the repository
        packs_read integer read whole
        bytes_read integer read whole
        affected_snapshots list that cannot be restored whole
        """,
    ),
    _message(
        "copy",
        "copied",
        "for each snapshot",
        """
        source_snapshot_id text the original
        snapshot_id text the copy
        skipped flag whether it was there already
        """,
    ),
    _message(
        "copy",
        "summary",
        "at the end",
        """
        snapshots_copied integer newly
        snapshots_skipped integer there already
        blobs_copied integer newly
        bytes_stored integer of new packs
        """,
    ),
    _message(
        "tag",
        "changed",
        "for each snapshot that changed",
        """
        old_snapshot_id text its name before
        new_snapshot_id text its name now
        """,
    ),
    _message("tag", "summary", "at the end", "changed_snapshots integer how many"),
    _message(
        "stats",
        "",
        "one",
        """
        total_size integer bytes
        total_file_count integer files
        total_blob_count integer? blobs
        snapshots_count integer snapshots
        total_uncompressed_size integer? bytes before compression
        compression_ratio number? the one by the other
        """,
    ),
    _message(
        "key list",
        "",
        "a list of these",
        """
        current flag whether it opened the repository just now
        id text the beginning of its name
        userName text who made it
        hostName text where
        created text when
        """,
    ),
    _message("key add", "added", "at the end", "id text the new key"),
    _message("key remove", "removed", "at the end", "id text the key that is gone"),
    _message("key passwd", "changed", "at the end", "id text the new key"),
    _message(
        "repair index",
        "summary",
        "at the end",
        """
        dry_run flag whether only told
        packs_added list that the index did not name, or named wrongly
        packs_dropped list that the index named and are gone
        packs_unreadable list `id` and `message`
        index_files_replaced integer how many
        """,
    ),
    _message(
        "repair packs",
        "summary",
        "at the end",
        """
        packs_repaired list taken apart
        blobs_saved integer moved into new packs
        blobs_lost list that are nowhere to be read
        """,
    ),
    _message(
        "repair snapshots",
        "repaired",
        "for each snapshot that had lost something",
        """
        old_snapshot_id text as it was
        new_snapshot_id text? as it is now
        shortened list files that lost a part
        dropped list files of which nothing is left
        emptied list folders that cannot be read; / where nothing of the snapshot can be
        removed flag whether the snapshot as it was is gone, or would be
        """,
    ),
    _message(
        "repair snapshots",
        "summary",
        "at the end",
        """
        dry_run flag whether only told
        snapshots_repaired integer how many
        snapshots_lost integer of which nothing can be read
        """,
    ),
    _message(
        "unlock",
        "summary",
        "at the end",
        """
        removed integer locks of dead programs, or all of them with --remove-all
        left integer locks of running programs
        """,
    ),
    _message("pool add", "pool", "one", _POOL),
    _message("pool list", "pool", "for each pool", _POOL),
    _message("pool check", "problem", "for each", "message text what is wrong"),
    _message(
        "pool check",
        "summary",
        "at the end",
        """
        name text of the pool
        num_errors integer how many things are wrong
        """,
    ),
    _message("pool remove", "removed", "one", "name text of which"),
    _message("user add", "user", "one", _USER),
    _message("user list", "user", "for each user", _USER),
    _message("user passwd", "user", "one", _USER),
    _message("user remove", "removed", "one", "name text of whom"),
    _message(
        "account add",
        "account",
        "one; its password is told this once",
        f"{_ACCOUNT}access_url text with user name and password",
    ),
    _message("account list", "account", "for each account", _ACCOUNT),
    _message("account change", "account", "one", _ACCOUNT),
    _message("account remove", "removed", "one", "name text of which"),
    _message("apikey new", "api_key", "one; it is told this once", "api_key text the key"),
    _message("apikey remove", "removed", "one", "name text api-key"),
    _message(
        "doctor",
        "finding",
        "for each thing looked at",
        """
        what text what was looked at
        verdict text good, mind or bad
        detail text what was found
        remedy text what to do, or nothing
        """,
    ),
    _message(
        "doctor",
        "summary",
        "at the end",
        """
        good integer findings
        mind integer findings
        bad integer findings
        """,
    ),
    _message(
        "store probe",
        "finding",
        "for each property tried",
        """
        subject text what was tried
        verdict text good, mind or bad
        message text what was found
        figures object what was measured; names tell the units
        """,
    ),
    _message(
        "store probe",
        "summary",
        "at the end",
        """
        good integer findings
        mind integer findings
        bad integer findings
        """,
    ),
    _message(
        "restbackup put",
        "uploaded",
        "at the end",
        """
        name text of the file in the account
        size integer bytes, as stored
        encrypted flag whether it is stored encrypted
        """,
    ),
    _message(
        "restbackup get",
        "downloaded",
        "at the end, unless to standard output",
        """
        name text of the file in the account
        target text the local file
        size integer bytes that were written
        decrypted flag whether it was decrypted
        """,
    ),
    _message(
        "restbackup list, tar --list",
        "",
        "a list of these",
        """
        name text of the file
        size integer bytes
        createtime integer seconds since 1970
        deletetime integer? when the service removes it, seconds since 1970
        """,
    ),
    _message(
        "restbackup tar",
        "archived",
        "at the end, with --full and --incremental",
        """
        archive text its name in the account
        level integer 0 for a full backup, else the number of the incremental one
        size integer bytes, as stored
        encrypted flag whether it is stored encrypted
        outcome text succeeded, or partial where files changed while they were read
        """,
    ),
    _message(
        "restbackup tar",
        "restored",
        "at the end, with --restore",
        """
        target text the folder
        archives list what was restored, in this order
        missing list files that were asked for and are in none of them
        outcome text succeeded or partial
        """,
    ),
    _message(
        "restbackup encrypt",
        "encrypted",
        "at the end, unless to standard output",
        """
        target text the file that was written
        size integer its bytes
        """,
    ),
    _message(
        "restbackup decrypt",
        "decrypted",
        "at the end, unless to standard output",
        """
        target text the file that was written
        size integer its bytes
        """,
    ),
    _message("restbackup session", "session", "one", "url text for a browser; a secret"),
    _message(
        "restbackup make-random-passphrase",
        "passphrase",
        "one",
        "passphrase text three words; a secret",
    ),
    _message(
        "version",
        "version",
        "one",
        """
        version text of Holdfast
        python_version text of the Python that runs it
        """,
    ),
    *SERVER,
)
