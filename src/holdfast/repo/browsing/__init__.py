"""Looking into snapshots: listing, finding, comparing, dumping, mounting."""
