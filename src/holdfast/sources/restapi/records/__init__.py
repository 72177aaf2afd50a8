"""Records: inside answers, and as text or tables."""
