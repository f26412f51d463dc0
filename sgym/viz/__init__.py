"""Pictures of what was simulated."""
