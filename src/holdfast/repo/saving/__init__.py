"""Backing up: from the steps of a source to packs, trees and a snapshot."""
