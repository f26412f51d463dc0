"""Learning agents: what trains policies for sgym, and the zoo of trained ones."""
