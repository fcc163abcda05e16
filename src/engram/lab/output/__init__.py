"""What is made of trials: results with verdicts, reports, figures, exports, records."""
