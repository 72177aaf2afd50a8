"""A project: its folder, its file, what that file may say and what it says."""
