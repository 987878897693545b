"""Tables and series as people have them: containers in, containers out."""
