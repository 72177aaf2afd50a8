"""Windows of one upload that are finished by several threads at once."""

from __future__ import annotations

import threading

import pytest

from holdfast.core.errors import VerificationError
from holdfast.repo.format.chunker import Chunker, random_polynomial
from holdfast.repo.saving.intake_ledger import Account
from holdfast.repo.saving.intake_stream import Stream, StreamFile, WindowPool
from holdfast.repo.saving.intake_tree import Growing, Notes


class Everybody:
    """Admits all."""

    def ask(self, stream):
        return True


def stream_of(ended):
    account = Account(lambda _: None)
    return Stream(
        WindowPool(), Everybody(), account, ready=lambda _: None, ended=ended, digest=False
    )


def two_windows(stream, done):
    """Gives so many small files that they take two windows; both, cut."""
    for number in range(1500):
        stream.begin_file(StreamFile(lambda _blobs, _size, number=number: done(number)))
        stream.offer(b"x")
        stream.end_file()
    stream.finish()
    chunker = Chunker(random_polynomial())
    return [stream.begin(chunker), stream.begin(chunker)]


def test_an_upload_has_not_ended_before_each_of_its_files_was_told():
    """I1: one thread may be done with the last window while another still tells of the first."""
    told, ended = [], []
    waiting, go_on = threading.Event(), threading.Event()

    def done(number):
        if number == 0:
            waiting.set()
            assert go_on.wait(60)
        told.append(number)

    stream = stream_of(lambda failure: ended.append((failure, len(told))))
    first, second = two_windows(stream, done)
    slow = threading.Thread(target=stream.finished, args=(first,))
    slow.start()
    assert waiting.wait(60)
    stream.finished(second)
    assert ended == []
    go_on.set()
    slow.join(60)
    assert ended == [(None, 1500)]


def test_no_file_is_left_out_of_a_tree():
    """I1, I8: a file whose content is not known yet fails the upload; it is never passed over."""
    notes = Notes()
    notes.file(b"folder/done", 0o644, 0)(b"", 0)
    notes.file(b"folder/open", 0o644, 0)
    growing = Growing(notes, 0, lambda _tree, _document: None, lambda: None)
    with pytest.raises(VerificationError, match="folder"):
        growing.grow()
