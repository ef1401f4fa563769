"""What a run leaves for readers: the report, the findings, the curated runs."""
