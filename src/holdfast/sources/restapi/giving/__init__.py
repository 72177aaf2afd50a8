"""Giving back what was collected: exports, differences, proofs."""
