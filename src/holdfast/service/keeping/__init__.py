"""The two ways of keeping a backup, behind the same few verbs."""
