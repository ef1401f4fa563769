"""A run of the study: what is measured, and kept."""
