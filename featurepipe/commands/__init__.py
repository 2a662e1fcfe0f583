"""One module per command: the only place that joins the stages, prints, and chooses exit codes."""
