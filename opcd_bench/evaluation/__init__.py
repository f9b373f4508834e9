"""Tasks in, graded samples out; retention through lm-evaluation-harness."""
