"""The durable engine behind eight verbs: submit, cancel, resume, list, report, lease, sweep and
collect. It knows no kind of task: bodies are registered from above.

    queue.py     Queue: what web and command-line processes use; it runs nothing
    worker.py    Worker: one for each worker process; it runs tasks
    body.py      what the body of a task is, and what it is given
    due.py       when a plan is due next

Nothing is imported here, so that the child process of a task starts fast.
"""
