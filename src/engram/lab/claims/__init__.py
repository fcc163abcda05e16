"""What is claimed and measured, and how it is judged: criteria, intervals, the correction for many tests."""
