"""The bodies of tasks. Whoever submitted a task was authorised then; a body acts as the server."""
