"""The program on a protected host: it reaches out to a server, and listens to nobody."""
