"""What people do with vectors: one package for each application."""
