"""The durable engine behind eight verbs: submit, cancel, resume, list, report, lease, sweep and
collect. It knows no kind of task: bodies are registered from above.
"""
