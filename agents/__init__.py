"""Agents: what trains policies for sgym, what they are measured against, and the zoo of them."""
