"""What a notebook shows: tables, figures, explorers."""
