"""What lies in a repository, to the letter: chunks, sealing, packs, trees, documents."""
