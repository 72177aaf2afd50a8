"""Faulty, lying, forgetful and crashing parts to test against; shipped for people who build on Holdfast."""
