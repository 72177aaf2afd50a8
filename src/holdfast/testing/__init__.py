"""Faulty, lying, forgetful and crashing parts to test against, for all who build on Holdfast."""
