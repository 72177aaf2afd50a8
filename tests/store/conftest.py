from contextlib import ExitStack

import pytest

from holdfast.testing.rest_server import RestServer


@pytest.fixture
def rest_server(tmp_path):
    """Makes servers of the REST protocol that live as long as the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(RestServer(tmp_path / "served", **options))
