"""The evaluation of a defense as a tool: a battery of attacks, and a checklist."""
