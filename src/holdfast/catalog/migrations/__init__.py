"""The steps by which a database came to its present tables, oldest first, for Alembic.

A new step is a file `r0002_what_it_does.py` in `versions`, written by hand as explicit operations
that SQLite and PostgreSQL both take, and `tables.REVISION` set to it. Steps that are there are
never changed. There is no way back: an older Holdfast refuses a newer database.
"""
